// What operations take: arrays in a device's memory, and how many of their rows count. All pointers
// are device pointers.
#pragma once

#include <cstdint>

#include "common/device/types.h"

namespace pregate {

// A weight matrix in the device's packed form: y[r, o] = sum_i x[r, i] * w[o, i].
struct Matrix {
  const void* data = nullptr;
  int outputs = 0;
  int inputs = 0;
  WeightFormat format = WeightFormat::kF32;
  bool lookup = false;  // Embed alone reads it: a device may let its rows lie apart
};

// One FFN part (an expert unit, or the shared part): gate, up [width, hidden], down
// [hidden, width]. Width 0 is legal: its output is 0.
struct UnitShape {
  int width = 0;
  int hidden = 0;
  WeightFormat format = WeightFormat::kF32;
};

// The tensors of a unit.
enum class UnitTensor { kGate, kUp, kDown };

// How many rows there are: a device scalar with a capacity that the host knows.
struct RowCount {
  const int32_t* num = nullptr;  // [1]
  int max = 0;
};

// The tokens of one step.
struct TokenBatch {
  RowCount rows;
  const int32_t* token_ids = nullptr;     // [max]
  const int32_t* positions = nullptr;     // [max] absolute
  const int32_t* seq_slots = nullptr;     // [max] row of block_tables
  const int32_t* block_tables = nullptr;  // [seq slots, blocks_per_seq]
  int blocks_per_seq = 0;
};

// One layer's paged keys and values; the layout inside is the device's own.
struct KvLayer {
  void* data = nullptr;  // KvLayerBytes()
  int num_blocks = 0;    // of kKvBlockTokens tokens
  int num_kv_heads = 0;
  int head_dim = 0;
  KvType type = KvType::kF32;
};

// Tokens sorted by expert: group e holds order[offsets[e] .. offsets[e+1]), each a token index.
// Within a group, tokens keep their order in the batch. Null arrays: see AllRows.
struct ExpertGroups {
  int32_t* offsets = nullptr;  // [num_experts + 1]
  int32_t* order = nullptr;    // [tokens max]
  int num_experts = 0;
};
// One group that holds every row of the batch, in order; nobody builds it.
inline ExpertGroups AllRows() { return {nullptr, nullptr, 1}; }

// Who runs what in a step of several ranks (expert_service/core/exchange_plan.h), seen from `rank`.
struct ExchangeArgs {
  int rank = 0;
  int world_size = 1;
  int num_experts = 0;
  int stride = 0;                       // rows of one message: the most that a rank has of its own
  const int32_t* home_ranks = nullptr;  // [max] of every token of the plan, in its order
  const int32_t* routes = nullptr;      // [max]; outside 0..experts-1: the token stays out
  const int32_t* targets = nullptr;     // [world, experts]: who runs expert e for tokens of home h
};
// Message d is rows [d * stride, (d + 1) * stride) of the send buffer; the message of source s is
// rows [s * stride, ...) of what is received.
struct ExchangeArrays {
  int32_t* send_rows = nullptr;  // [world * stride] index among the rank's own tokens; -1: padding
  ExpertGroups received;         // over received rows; order [world * stride]
};

}  // namespace pregate

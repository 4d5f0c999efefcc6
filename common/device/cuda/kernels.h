// Launch functions of the CUDA device's kernels: plain arguments only, so that a .cu file includes
// neither Abseil nor device.h. What an operation means is said in common/device/device.h and, line
// by line, in common/device/reference.
//
// Grids are sized by capacities (Rows::max); every kernel reads the count on the device and leaves
// rows beyond it alone. Sums run in an order that depends on the row's own data alone. Pointers are
// device pointers. `bf16` tells the element type of what the comment calls "elements".
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "common/device/cuda/wait_limit.h"
#include "common/device/sample_args.h"

namespace pregate::cuda {

// Where kernels go, and what is known of them.
struct Stream {
  cudaStream_t handle = nullptr;
  int multiprocessors = 132;  // of its card
  int64_t num_launches = 0;
  cudaError_t error = cudaSuccess;  // the first one of a launch
  uint64_t* stuck = nullptr;        // [WaitingKernel::kCount], see WaitLimit; may be null

  WaitLimit waits(WaitingKernel kernel) const {
    return {stuck != nullptr ? stuck + static_cast<int>(kernel) : nullptr, kWaitLimitTicks};
  }
};

// Of a GridBarrier, in device memory: zeros before the first grid that uses them.
struct BarrierCounts {
  unsigned arrived;  // blocks, ever
  unsigned before;   // of which in the grids before this one
};

struct Rows {
  const int32_t* num = nullptr;  // [1]
  int max = 0;
};

// --- rows ---
// out[r, :] = scale * element row ids[r] of the table, whose rows are `stride` elements apart.
void Embed(Stream& stream, Rows rows, const int32_t* ids, const void* table, int64_t stride,
           int width, bool bf16, float scale, float* out);
void RmsNorm(Stream& stream, Rows rows, int width, const float* x, const float* weight, float eps,
             bool bf16, void* act_out);
// h += scale * (shared + round(own)); a null `shared` is zeros, `own` may be null.
void AddFfn(Stream& stream, Rows rows, int width, const float* shared, const float* own, bool bf16,
            float scale, float* h);
// AddFfn, then act_out = RmsNorm(h).
void AddFfnNorm(Stream& stream, Rows rows, int width, const float* shared, const float* own,
                bool wire_bf16, float scale, float* h, const float* weight, float eps, bool bf16,
                void* act_out);
// out[r, :] += bias
void AddBias(Stream& stream, Rows rows, int width, const float* bias, float* out);
// act_out = round(silu or relu of x)
void Activate(Stream& stream, Rows rows, int width, bool silu, const float* x, bool bf16,
              void* act_out);
void GatherRows(Stream& stream, Rows rows, int width, const float* x, const int32_t* index,
                float* out);
void ResolveLate(Stream& stream, Rows rows, const uint8_t* late, const int32_t* seq_slots,
                 const int32_t* last_token, const int32_t* last_route, int32_t* token_ids,
                 int32_t* routes);
void ScatterToSlots(Stream& stream, Rows rows, const int32_t* values, const int32_t* seq_slots,
                    int32_t* last);
void NoteTokens(Stream& stream, Rows rows, const int32_t* token_ids, const int32_t* positions,
                const int32_t* seq_slots, int words_per_slot, const TokenHistory& history);

// --- wire: elements on both sides, an index of -1 leaves the row alone ---
// wire[r, :] = round(act[index[r], :]); a null index is r itself. From wire to act it is the same.
void CopyToWire(Stream& stream, Rows rows, int width, bool act_bf16, const void* act,
                const int32_t* index, bool wire_bf16, void* wire);
void RoundRows(Stream& stream, Rows rows, int width, const float* x, bool wire_bf16, void* wire);
// out[index[r], :] = wire[r, :]
void WidenToRows(Stream& stream, Rows rows, int width, bool wire_bf16, const void* wire,
                 const int32_t* index, float* out);

// --- groups ---
void BuildGroups(Stream& stream, Rows rows, const int32_t* routes, int num_experts,
                 int32_t* offsets, int32_t* order);
struct ExchangeProblem {
  Rows tokens;
  int rank, world_size, num_experts, stride;
  const int32_t* home_ranks;  // [max]
  const int32_t* routes;      // [max]
  const int32_t* targets;     // [world, experts]
  int32_t* send_rows;         // [world * stride]
  int32_t* offsets;           // [experts + 1]
  int32_t* order;             // [world * stride]
};
// REQUIRES: world * experts <= kExchangePairsMax.
inline constexpr int kExchangePairsMax = 48 * 1024;
void BuildExchange(Stream& stream, const ExchangeProblem& problem);

// --- attention ---
struct PagedTokens {
  Rows rows;
  const int32_t* positions;     // [max]
  const int32_t* seq_slots;     // [max]
  const int32_t* block_tables;  // [slots, blocks_per_seq]
  int blocks_per_seq;
};
struct Heads {
  int num_heads, num_kv_heads, head_dim;
};
// Elements [2: keys, values][num_blocks][num_kv_heads][16 tokens][head_dim].
struct PagedKv {
  void* data;
  int num_blocks;
  bool bf16;
};
inline constexpr int kHeadDimMax = 256;
// What happens to a head of q or k on its way into attention (RopeShape, HeadNorms).
struct Rotation {
  int dims;  // even, at most head_dim
  const float* inv_freq;
  float scale;
  const float *q_norm, *k_norm;  // [head_dim], may be null
  float norm_eps;
};
// REQUIRES: head_dim <= kHeadDimMax.
void RotateAndStore(Stream& stream, const PagedTokens& tokens, const Heads& heads,
                    const Rotation& rotation, const float* qkv, const PagedKv& kv, float* q_out);
// Scratch of SplitAttention, which the step kernel has too; 0: it does not take such heads or so many
// rows. It begins as zeros.
size_t SplitAttentionBytes(const PagedTokens& tokens, const Heads& heads);
// Scratch of Attention, for spreading each row's keys over the card; 0 where there is enough to do
// without. It begins as zeros.
size_t AttentionBytes(const PagedTokens& tokens, const Heads& heads, bool kv_bf16);
// act_out elements of type `bf16`. A token sees the last `window` keys up to its own, 0: all.
// A null `scratch`: keys are not spread. REQUIRES: head_dim <= kHeadDimMax.
void Attention(Stream& stream, const PagedTokens& tokens, const Heads& heads, const float* q,
               const PagedKv& kv, float scale, int window, bool bf16, void* scratch, void* act_out);

// --- matrix products over groups of rows ---
// Row r of the sorted order belongs to the group whose offsets hold r; without offsets all rows are
// one group. Weights [outputs, inputs] are rows of `weight_stride` elements (a multiple of 16
// bytes, zero beyond `inputs`).
struct GroupedMatmul {
  Rows rows;
  const void* x = nullptr;           // elements, rows of x_stride
  const int32_t* x_index = nullptr;  // sorted row r reads x row x_index[r]; null: r
  int64_t x_stride = 0;
  const int32_t* offsets = nullptr;  // [num_groups + 1]
  int num_groups = 1;
  // The group's weights: units[group] + section (null units are skipped), or `weight`.
  const void* const* units = nullptr;
  const void* weight = nullptr;
  int64_t section_bytes = 0;
  int64_t second_section_bytes = 0;  // of `up`, for GroupedGateUp
  int outputs = 0;
  int inputs = 0;
  int64_t weight_stride = 0;
  bool bf16 = false;
  // Sorted row r goes to row out_index[r] (null: r). Columns from `outputs` up to out_columns
  // become 0.
  void* out = nullptr;
  const int32_t* out_index = nullptr;
  int64_t out_stride = 0;
  int out_columns = 0;
};
// out (f32) = x · w^T. `also` (may be null), of the same element type, runs beside it where it can.
void GroupedLinear(Stream& stream, const GroupedMatmul& problem,
                   const GroupedMatmul* also = nullptr);
// out (elements) = round(silu(x · gate^T) * (x · up^T))
void GroupedGateUp(Stream& stream, const GroupedMatmul& problem,
                   const GroupedMatmul* also = nullptr);

// For Hopper, bf16, rows that HasAlignedRows (weights/tensor_matmul.cuh), and no more of them than
// are faster so than by cuBLASLt and RotateAndStore.
bool TakesLinearHeads(const GroupedMatmul& problem);
// x · w^T are the heads of q, k and v: RotateAndStore of them. `out` of the problem is not looked at.
// REQUIRES: TakesLinearHeads; no head norms; head_dim a multiple of 16, of which all channels turn or none.
void LinearHeads(Stream& stream, const GroupedMatmul& problem, const PagedTokens& tokens,
                 const Heads& heads, const Rotation& rotation, const PagedKv& kv, float* q_out);

// --- vocabulary ---
void ArgMax(Stream& stream, Rows rows, int width, const float* x, int32_t* out);
void ScoreTokens(Stream& stream, Rows rows, int vocab_size, const float* logits,
                 const int32_t* targets, float* out_logprobs, uint8_t* out_greedy);
struct SampleProblem {
  Rows rows;
  const float* logits;
  int vocab_size;
  SampleArgs args;
};
void SampleTokens(Stream& stream, const SampleProblem& problem);

}  // namespace pregate::cuda

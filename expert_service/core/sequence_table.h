// What a rank remembers of each open sequence, by slot. Pure host data; the device mirrors of block
// tables and sampling state are the executor's. The rules that the two lengths obey stand in
// engine/step_executor.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/plan.h"
#include "common/step/result.h"

namespace pregate {

struct Sequence {
  bool open = false;
  SeqId seq_id = 0;
  int32_t home_rank = 0;
  SamplingParams sampling;
  uint64_t seed = 0;
  std::vector<BlockId> blocks;    // the filled part of its block table
  int32_t length = 0;             // tokens with backbone KV
  int32_t replica_length = 0;     // tokens with replica KV
  int32_t sampled_position = -1;  // of the last sample; -1: none since the add
  TokenId sampled_token = 0;
  ExpertId sampled_route = kNoRoute;
  std::string error;  // not empty: failed, takes no rows until its drop

  bool failed() const { return !error.empty(); }
  // From now on it takes no rows; returns what the result says of it.
  RowError Fail(std::string message);
  // Positions that its blocks can hold.
  int32_t capacity_tokens() const { return static_cast<int32_t>(blocks.size()) * kKvBlockTokens; }
};

// Not thread-safe. REQUIRES of every slot: in range; checked by CheckPlan before.
class SequenceTable {
 public:
  explicit SequenceTable(int32_t seq_slots) : sequences_(seq_slots) {}

  int32_t seq_slots() const { return static_cast<int32_t>(sequences_.size()); }
  bool InRange(int32_t slot) const { return slot >= 0 && slot < seq_slots(); }
  const Sequence& at(int32_t slot) const { return sequences_[slot]; }
  Sequence& at(int32_t slot) { return sequences_[slot]; }

  void Clear();
  void Close(int32_t slot) { sequences_[slot] = Sequence(); }
  // History is taken as positions that have KV already: its tokens are marked as seen by the
  // caller.
  void Open(const SequenceAdd& add);
  // REQUIRES: CheckBlocks passed.
  void SetBlocks(const BlockTableUpdate& update);

 private:
  std::vector<Sequence> sequences_;
};

// First position of the row's committed tokens whose replica KV is missing: its own position when a
// token differs from the sample that the replica saw there, the position behind them when nothing
// is missing (a late row's always is there).
int32_t ReplicaFillFrom(const Sequence& sequence, const Row& row);

}  // namespace pregate

// Runs one StepPlan on one rank: the sequences' state, the weights, the paged KV, the router's
// replica.
//
//   plan ─▶ check ─▶ commit drop, add, blocks ─▶ stage rows ─▶ upload
//        ─▶ ResolveLate · MarkSeen · BuildGroups ─▶ replica FillKv ─▶ ForwardPass
//        ─▶ per bounded batch of emitting rows: final norm ─▶ logits ─▶ sample | score | download
//        ─▶ replica Forward over the samples: their routes ─▶ StepResult
//
// The state of a sequence lives from add to drop and is: its block table, its sampling parameters,
// its seed, the set of tokens seen (repetition penalty), and two lengths in tokens: `length`, the
// committed positions that have backbone KV, and `replica_length`, those that have replica KV. They
// obey:
//   - An add with a history of n tokens says that positions 0..n-1 have KV in the blocks of its
//   table (backbone and
//     replica alike, since every step writes both). Its first row starts at n.
//   - So a new sequence has an empty history, a prefix hit has the hit's tokens, and a preempted
//   sequence comes
//     back either with an empty history and all its tokens as rows from position 0 (its blocks are
//     gone; the rows mark the tokens as seen), or with the tokens that its blocks still hold, then
//     the rest as rows.
//   - Rows are contiguous: position = length. A sample at position p does not raise `length`; the
//   row that carries
//     it (late or not) does. It raises `replica_length` to p + 1: the replica ran over it to name
//     its route.
// Plans with errors as a whole change nothing (StepResult.status); a bad row or add fails its
// sequence alone (row_errors), and each later row of a failed sequence is an error too until the
// drop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/device/device.h"
#include "common/model/checkpoint.h"
#include "common/step/plan.h"
#include "common/step/result.h"
#include "expert_service/core/step_limits.h"

namespace pregate {

struct ExecutorOptions {
  int32_t rank = 0;
  DType dtype = DType::kBF16;  // weights and KV; f32 or bf16
  int64_t kv_cache_bytes = 0;  // used when kv_blocks is 0: as many blocks as fit
  int32_t kv_blocks = 0;
  int32_t seq_slots = 64;
  int32_t step_tokens = 256;
  int32_t context_tokens = 0;    // 0: the model's max_position
  int32_t logits_rows_max = 32;  // rows that go through the logits product at once
};

// Bytes by part, computed before anything is allocated.
struct MemoryPlan {
  int64_t embedding_bytes = 0;  // embedding and logits matrices
  int64_t attention_bytes = 0;  // all layers, norms included
  int64_t resident_ffn_bytes = 0;
  int64_t expert_bytes = 0;  // all units
  int64_t router_bytes = 0;
  int64_t kv_bytes = 0;  // all blocks, the replica's layers included
  int64_t kv_block_bytes = 0;
  int32_t kv_blocks = 0;
  int64_t step_bytes = 0;  // activations, logits, staging
  int64_t total_bytes() const {
    return embedding_bytes + attention_bytes + resident_ffn_bytes + expert_bytes + router_bytes +
           kv_bytes + step_bytes;
  }
};

// Called after each loaded part with parts done and parts in all.
using LoadProgress = std::function<void(int done, int total)>;
// Called after each layer of a step; false stops the step, whose result then says ABORTED.
using LayerProgress = std::function<bool()>;

// Not thread-safe: one thread calls. After Create nothing is allocated on the device.
class StepExecutor {
 public:
  // `device` and `clock` outlive the executor; `checkpoint` is needed only during the call.
  static absl::StatusOr<std::unique_ptr<StepExecutor>> Create(const Checkpoint& checkpoint,
                                                              Device* device, Clock* clock,
                                                              const ExecutorOptions& options,
                                                              const LoadProgress& progress);
  static absl::StatusOr<MemoryPlan> PlanMemory(const ModelSpec& spec, const Device& device,
                                               const ExecutorOptions& options);
  ~StepExecutor();

  // Drops every sequence; KV contents stay.
  void Reset();
  // Fills everything of the result but incarnation. `on_layer` may be null.
  StepResult Run(const StepPlan& plan, const LayerProgress& on_layer);

  const StepLimits& limits() const;
  const MemoryPlan& memory() const;
  const std::string& model_digest() const;
  std::string numerics_id() const;
  std::string device_name() const;

 private:
  struct State;
  explicit StepExecutor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

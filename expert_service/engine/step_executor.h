// Runs one StepPlan on one rank: the sequences' state, the weights, the paged KV, the router's
// replica.
//
//   plan ─▶ check ─▶ commit drop, add, blocks ─▶ stage rows ─▶ upload ─▶ replica over drafts: their routes
//        ─▶ ResolveLate · NoteTokens ─▶ replica FillKv
//        ─▶ ForwardPass, experts as they become resident
//        ─▶ per bounded batch of emitting rows: final norm ─▶ logits ─▶ sample | score | download
//        ─▶ replica Forward over each row's last sample: their routes ─▶ StepResult
//
// The state of a sequence lives from add to drop. It is its block table, its sampling parameters,
// biases and bans, its seed, the set of tokens seen (repetition penalty), how often each was generated
// (frequency and presence penalty), and two lengths in tokens: `length`, the committed positions that
// have backbone KV, and `replica_length`, those that have replica KV.
//
//   - An add with a history of n tokens says that positions 0..n-1 have KV in the blocks of its
//     table (backbone and replica alike, since every step writes both). Its first row starts at n.
//   - So a new sequence has an empty history, a prefix hit has the hit's tokens, and a preempted
//     sequence comes back either with an empty history and all its tokens as rows from position 0
//     (its blocks are gone; the rows mark the tokens as seen), or with the tokens that its blocks
//     still hold, then the rest as rows. Tokens at positions from generated_from on count as
//     generated, in the history or in rows.
//   - Rows are contiguous: position = length. A sample at position p does not raise `length`; the
//     row that carries it (late or not) does. It raises `replica_length` to p + 1: the replica ran
//     over it to name its route. Of a row's drafts `length` counts those that were right.
//
// Plans with errors as a whole change nothing (StepResult.status). A bad row or add fails its
// sequence alone (row_errors), and each later row of a failed sequence is an error too until the
// drop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/collective/collective.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "common/step/control.h"
#include "common/step/plan.h"
#include "common/step/result.h"
#include "expert_service/core/step_limits.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/memory_plan.h"
#include "expert_service/engine/progress.h"

namespace pregate {

// How a step went on this rank.
struct StepTimes {
  int64_t forward_us = 0;  // embedding to logits
  int64_t router_us = 0;   // the replica's part
  int64_t sample_us = 0;
  int64_t stall_us = 0;    // waited on residency
  int32_t num_tokens = 0;  // of its own sequences
  // Units that the step needed: resident when it came to load them, absent, on their way; and units
  // that gave way.
  int64_t unit_hits = 0;
  int64_t unit_misses = 0;
  int64_t unit_late_prefetches = 0;
  int64_t unit_evictions = 0;
  // What travelled between the ranks: the host's time in it over all layers, waiting for peers
  // included (0: nothing travelled, or the collective only enqueues); payload to and from others.
  int64_t exchange_us = 0;
  int64_t exchange_bytes_sent = 0;
  int64_t exchange_bytes_received = 0;
};

// What decoding at batch 1 consists of where not all experts fit.
struct DecodeCost {
  absl::Duration step;       // all units are there
  absl::Duration unit_load;  // one unit, the link being free
};

// Not thread-safe: one thread calls. After Create nothing is allocated on the device.
class StepExecutor {
 public:
  // `checkpoint`, `device` and `clock` outlive the executor.
  static absl::StatusOr<std::unique_ptr<StepExecutor>> Create(const Checkpoint& checkpoint,
                                                              Device* device, Clock* clock,
                                                              const ExecutorOptions& options,
                                                              const LoadProgress& progress);
  ~StepExecutor();

  // Drops every sequence; KV contents stay.
  void Reset();
  // A new epoch: every sequence is dropped, KV contents stay. `members`: ranks in ascending order,
  // this one among them; `placement` names indexes in them. Reads and packs the units of experts
  // that this rank has not held before. `collective` is of the members and outlives the epoch;
  // null with one member: nothing travels. `progress` may be null.
  absl::Status Form(std::vector<int32_t> members, const Placement& placement,
                    Collective* collective, const LoadProgress& progress);
  // Fills everything of the result but incarnation. `on_progress` may be null; when it stops the
  // step, the status is ABORTED.
  StepResult Run(const StepPlan& plan, const StepProgress& on_progress);

  // Of the last Run.
  const StepTimes& times() const;

  // Before the first Form: what a step of one token takes whose units are all there, and what the
  // largest unit takes to arrive, by running them; nothing of it is left. REQUIRES: units move, and one
  // expert is held.
  absl::StatusOr<DecodeCost> MeasureDecodeCost();

  // Between steps: goes on with loading what is wanted. Returns what has happened.
  std::vector<UnitEvent> Tick();
  std::vector<UnitId> ResidentUnits() const;
  ResidencyStats residency() const;

  const StepLimits& limits() const;
  const MemoryPlan& memory() const;
  const std::string& model_digest() const;
  std::string router_digest() const;  // empty without a replica
  std::string numerics_id() const;
  std::string device_name() const;

 private:
  struct State;
  explicit StepExecutor(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

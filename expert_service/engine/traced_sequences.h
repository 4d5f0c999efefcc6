// The sequences in a worker's slots that belong to a trace: from the plan that adds one to the end of
// its last step. Plans without any cost nothing.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "common/step/plan.h"
#include "common/telemetry/trace_log.h"

namespace pregate {

// Not thread-safe.
class TracedSequences {
 public:
  using Tell = std::function<void(const TracedWork& work)>;

  // `tell` hears of each sequence that has left, whose home is this worker.
  TracedSequences(int32_t rank, Tell tell) : rank_(rank), tell_(std::move(tell)) {}

  // Before and after the plan is run.
  void OnPlan(const StepPlan& plan, absl::Time now);
  void OnStep(const StepPlan& plan, absl::Time now);
  // Every slot is empty.
  void OnEpoch();

 private:
  const int32_t rank_;
  const Tell tell_;
  absl::flat_hash_map<int32_t, TracedWork> open_;  // by slot
};

}  // namespace pregate

// What others do, to be compared with (docs/OFFLOAD.md). FcfsPlanner (planner.h) is the field's
// decode-first with chunked prefill.
#pragma once

#include "scheduler_service/core/planner.h"

namespace pregate::scheduler {

// Prefill first: as long as a prompt can go on, a step holds prompts alone, oldest first; decode
// tokens run when none can. So that decodes do not starve, a step is FcfsPlanner's when one of them
// was passed over `age_steps` times.
class PrefillFirstPlanner final : public Planner {
 public:
  explicit PrefillFirstPlanner(int32_t age_steps) : age_steps_(age_steps) {}

  Proposal Propose(const PlannerView& view) const override;

 private:
  const int32_t age_steps_;
};

// The paper's Algorithm 1: a queue of tokens for each expert; a step takes the longest queues until
// its budget is full. As printed it reads a wrong index, never ends when the queues run dry before
// the budget is full, starves rare experts and knows neither KV memory nor prompts whose tokens want
// several experts. Mended: it ends; whoever was passed over `age_steps` times comes first; blocks
// are respected; a prompt stands in the queue of its next token and runs uncut. Left as it is: what
// is resident does not count.
class LongestQueuePlanner final : public Planner {
 public:
  explicit LongestQueuePlanner(int32_t age_steps) : age_steps_(age_steps) {}

  Proposal Propose(const PlannerView& view) const override;

 private:
  const int32_t age_steps_;
};

}  // namespace pregate::scheduler

// The planner for where experts do not all fit (docs/OFFLOAD.md): it decides which experts' tokens
// run in the next step and which experts are to be resident for the steps behind it, in one go, since
// whoever makes the order knows the next uses.
#pragma once

#include "scheduler_service/core/planner.h"

namespace pregate::scheduler {

// A load takes as long as dozens of decode steps, so loads go on beneath the steps and a step runs
// what is there:
//
//   worth of an expert   the decode tokens that are known to want it, each counting more the longer
//                        it was passed over (twice at `age_steps`); of a resident one also those that
//                        are expected within kExpectedSteps (RouteHabits), and all of that twice, so
//                        that what is there gives way only to what is worth double.
//   to be resident       the experts of the greatest worth, as many as fit. Exact and expected uses
//                        meet in Worth() and nowhere else.
//   the step             decode tokens of the experts that are resident, or whose rest a decode step
//                        hides (LoadCost). If that lets nobody run: those of the absent expert of the
//                        greatest worth, for which the step waits.
//   prompts              name nearly every expert, in any order of work. A chunk that needs an absent
//                        one goes when no decode token can run, after age_steps / 4 steps at the
//                        latest, uncut; every decode token whose expert it names goes along.
//
// Age bound: no sequence that could run is passed over more than `age_steps` times in a row: a decode
// token as long as it gets its KV block, a prefill chunk as long as older ones leave it budget.
// Where all experts fit this is FcfsPlanner.
class HorizonPlanner final : public Planner {
 public:
  explicit HorizonPlanner(int32_t age_steps) : age_steps_(age_steps) {}

  Proposal Propose(const PlannerView& view) const override;

 private:
  const int32_t age_steps_;
};

}  // namespace pregate::scheduler

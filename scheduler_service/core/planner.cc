#include "scheduler_service/core/planner.h"

#include "scheduler_service/core/draft.h"

namespace pregate::scheduler {

Proposal FcfsPlanner::Propose(const PlannerView& view) const {
  Draft draft = StartDraft(view, Newcomer(view), INT32_MAX);
  for (size_t i = 0; i < view.running.size(); ++i) draft.AddDecodeRow(i);
  for (size_t i = 0; i < view.running.size(); ++i) draft.AddChunk(i, INT32_MAX);
  if (draft.has_preempted()) return draft.Take();
  for (const Sequence* s : view.waiting) {
    if (Draft::MayEnter(*s) && !draft.Admit(*s, INT32_MAX)) break;
  }
  return draft.Take();
}

}  // namespace pregate::scheduler

#include "scheduler_service/core/planner.h"

#include "scheduler_service/core/proposal_builder.h"

namespace pregate::scheduler {

Proposal FcfsPlanner::Propose(const PlannerView& view) const {
  ProposalBuilder builder = StartProposal(view, Newcomer(view), INT32_MAX);
  for (size_t i = 0; i < view.running.size(); ++i) builder.AddDecodeRow(i);
  for (size_t i = 0; i < view.running.size(); ++i) builder.AddChunk(i, INT32_MAX);
  if (builder.has_preempted()) return builder.Take();
  for (const Sequence* s : view.waiting) {
    if (ProposalBuilder::MayEnter(*s) && !builder.Admit(*s, INT32_MAX)) break;
  }
  return builder.Take();
}

}  // namespace pregate::scheduler

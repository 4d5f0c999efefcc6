#include "scheduler_service/core/baseline_planners.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "scheduler_service/core/proposal_builder.h"

namespace pregate::scheduler {
namespace {

bool IsOld(const PlannerView& view, const Sequence& s, int32_t age_steps) {
  return view.step_id > s.idle_since + static_cast<StepId>(age_steps);
}

// The experts whose queues a step of the budget takes.
std::vector<bool> LongestQueues(const PlannerView& view) {
  std::vector<int64_t> tokens(view.experts.size());
  const auto count = [&](const Sequence& s) {
    if (ProposalBuilder::MayRun(view, s)) tokens[s.NextRoute()] += ProposalBuilder::TokensToRun(s);
  };
  for (const Sequence* s : view.running) count(*s);
  for (const Sequence* s : view.waiting) {
    if (ProposalBuilder::MayEnter(*s)) count(*s);
  }
  std::vector<ExpertId> order(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](ExpertId a, ExpertId b) { return tokens[a] > tokens[b]; });
  std::vector<bool> taken(tokens.size());
  int64_t budget = view.step_tokens;
  for (const ExpertId e : order) {
    if (budget <= 0) break;
    taken[e] = true;
    budget -= tokens[e];
  }
  return taken;
}

}  // namespace

Proposal PrefillFirstPlanner::Propose(const PlannerView& view) const {
  for (const Sequence* s : view.running) {
    if (ProposalBuilder::MayDecode(*s) && IsOld(view, *s, age_steps_)) {
      return FcfsPlanner().Propose(view);
    }
  }
  ProposalBuilder builder = StartProposal(view, Newcomer(view), INT32_MAX);
  for (size_t i = 0; i < view.running.size(); ++i) builder.AddChunk(i, INT32_MAX);
  for (const Sequence* s : view.waiting) {
    if (builder.has_preempted()) break;
    if (ProposalBuilder::MayEnter(*s) && !builder.Admit(*s, INT32_MAX)) break;
  }
  return builder.has_rows() ? builder.Take() : FcfsPlanner().Propose(view);
}

Proposal LongestQueuePlanner::Propose(const PlannerView& view) const {
  if (view.experts.empty()) return FcfsPlanner().Propose(view);
  const std::vector<bool> taken = LongestQueues(view);
  const auto runs = [&](const Sequence& s) {
    return IsOld(view, s, age_steps_) || taken[s.NextRoute()];
  };
  ProposalBuilder builder = StartProposal(view, Newcomer(view), INT32_MAX);
  for (size_t i = 0; i < view.running.size(); ++i) {
    if (runs(*view.running[i])) builder.AddDecodeRow(i);
  }
  for (size_t i = 0; i < view.running.size(); ++i) {
    if (runs(*view.running[i])) builder.AddChunk(i, INT32_MAX);
  }
  for (const Sequence* s : view.waiting) {
    if (builder.has_preempted()) break;
    if (!ProposalBuilder::MayEnter(*s) || !runs(*s)) continue;
    if (!builder.Admit(*s, INT32_MAX)) break;
  }
  return builder.has_rows() ? builder.Take() : FcfsPlanner().Propose(view);
}

}  // namespace pregate::scheduler

#include "scheduler_service/core/by_expert_planner.h"

#include <algorithm>
#include <vector>

#include "scheduler_service/core/proposal_builder.h"

namespace pregate::scheduler {
namespace {

// The expert set of one step in the making.
class ExpertSet {
 public:
  ExpertSet(const PlannerView& view, const ByExpertOptions& options, int32_t experts_max)
      : view_(view),
        options_(options),
        experts_max_(experts_max),
        in_(view.experts.size()),
        tokens_(view.experts.size()) {
    for (const Sequence* s : view.running) Count(*s);
    for (const Sequence* s : view.waiting) {
      if (ProposalBuilder::MayEnter(*s)) Count(*s);
    }
    Choose();
  }

  // Not when the route is still unknown.
  bool Has(ExpertId e) const { return e != kNoRoute && in_[e]; }
  bool IsOld(const Sequence& s) const {
    return view_.step_id > s.idle_since + static_cast<StepId>(options_.age_steps);
  }
  // A decode token's route is known, a late row's is the guess that the last one stays.
  bool HasNextOf(const Sequence& s) const {
    return Has(s.routes[std::min(s.planned, s.num_tokens() - 1)]);
  }
  // Tokens of the chunk from its next row on that the set allows; 0: not worth a row.
  int32_t ChunkTokens(const Sequence& s) const {
    if (IsOld(s)) return INT32_MAX;
    const int32_t begin = s.next_row(), left = s.num_routed() - begin;
    int32_t count = 0;
    while (count < left && Has(s.routes[begin + count])) ++count;
    return count < std::min(left, options_.chunk_tokens) ? 0 : count;
  }

 private:
  // Of a sequence that may run: its tokens until the route changes, and what it needs if it is old.
  void Count(const Sequence& s) {
    if (ProposalBuilder::MayRunLate(view_, s) || ProposalBuilder::MayDecode(s)) {
      const ExpertId e = s.routes[std::min(s.planned, s.num_tokens() - 1)];
      ++tokens_[e];
      if (IsOld(s)) Add(e);
    } else if (ProposalBuilder::MayPrefill(s)) {
      const int32_t begin = s.next_row();
      const ExpertId e = s.routes[begin];
      const int32_t end = std::min(s.num_routed(), begin + view_.step_tokens);
      for (int32_t i = begin; i < end && s.routes[i] == e; ++i) ++tokens_[e];
      for (int32_t i = begin; i < end && IsOld(s); ++i) Add(s.routes[i]);
    }
  }
  void Add(ExpertId e) {
    num_in_ += in_[e] ? 0 : 1;
    in_[e] = true;
  }
  void Choose() {
    std::vector<ExpertId> order;
    for (ExpertId e = 0; e < static_cast<ExpertId>(in_.size()); ++e) {
      if (!in_[e] && (tokens_[e] > 0 || view_.experts[e].resident)) order.push_back(e);
    }
    std::stable_sort(order.begin(), order.end(), [&](ExpertId a, ExpertId b) {
      const bool a_resident = view_.experts[a].resident;
      if (a_resident != view_.experts[b].resident) return a_resident;
      return tokens_[a] > tokens_[b];
    });
    for (const ExpertId e : order) {
      if (num_in_ > 0 && (num_in_ >= experts_max_ || !view_.experts[e].resident)) break;
      Add(e);
    }
  }

  const PlannerView& view_;
  const ByExpertOptions& options_;
  const int32_t experts_max_;
  std::vector<bool> in_;         // [expert]
  std::vector<int32_t> tokens_;  // [expert] eligible
  int32_t num_in_ = 0;
};

}  // namespace

Proposal ByExpertPlanner::Propose(const PlannerView& view) const {
  const int32_t num_experts = static_cast<int32_t>(view.experts.size());
  const int32_t experts_max = options_.experts_max > 0 ? options_.experts_max : view.expert_slots;
  if (experts_max == 0 || experts_max >= num_experts) return FcfsPlanner().Propose(view);
  const ExpertSet set(view, options_, experts_max);
  const Sequence* newcomer = Newcomer(view);
  ProposalBuilder builder =
      StartProposal(view, newcomer, newcomer == nullptr ? 0 : set.ChunkTokens(*newcomer));
  for (size_t i = 0; i < view.running.size(); ++i) {
    const Sequence& s = *view.running[i];
    if (set.IsOld(s) || set.HasNextOf(s)) builder.AddDecodeRow(i);
  }
  for (size_t i = 0; i < view.running.size(); ++i) {
    if (ProposalBuilder::MayPrefill(*view.running[i]))
      builder.AddChunk(i, set.ChunkTokens(*view.running[i]));
  }
  for (const Sequence* s : view.waiting) {
    if (builder.has_preempted()) break;
    if (!ProposalBuilder::MayEnter(*s)) continue;
    const int32_t tokens = set.ChunkTokens(*s);
    if (tokens > 0 && !builder.Admit(*s, tokens)) break;
  }
  // What the set allows may lack blocks or tokens enough: then the oldest goes on.
  return builder.has_rows() ? builder.Take() : FcfsPlanner().Propose(view);
}

}  // namespace pregate::scheduler

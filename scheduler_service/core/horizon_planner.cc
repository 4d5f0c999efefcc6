#include "scheduler_service/core/horizon_planner.h"

#include <algorithm>
#include <vector>

#include "scheduler_service/core/proposal_builder.h"

namespace pregate::scheduler {
namespace {

// How far ahead arrivals at a resident expert count. More of it loads less, at the price of latency
// (docs/OFFLOAD.md has both).
constexpr double kExpectedSteps = 3;
// What all sequences did counts as so many tokens of a sequence's own.
constexpr double kHabitTokens = 8;
// What is there gives way only to what is worth so many times as much.
constexpr double kHysteresis = 2;
// A prefill chunk that ends where the set does is worth a row from here on.
constexpr int32_t kChunkTokensMin = 32;

// One expert, as the next step sees it.
struct ExpertDemand {
  int32_t tokens = 0;     // decode tokens that could run now
  double known = 0;       // the same, by how long they have waited
  double expected = 0;    // decode tokens that may come within kExpectedSteps
  double resident = 0;    // share of its units
  bool is_there = false;  // a step need not wait for it
  bool in_step = false;
  bool in_prompts = false;  // a prompt's next chunk names it

  double Worth() const {
    return (known + resident * expected) * (1 + (kHysteresis - 1) * resident) +
           (tokens == 0 ? 1e-3 * resident : 0);
  }
};

class StepPlanner {
 public:
  StepPlanner(const PlannerView& view, int32_t age_steps)
      : view_(view), age_steps_(age_steps), demand_(view.experts.size()) {
    decoding_.reserve(view.running.size());
    for (const Sequence* s : view.running) Count(*s);
    CountWaiting();
    LookAtResidency();
    Expect();
    Order();
    ChooseSet();
  }

  bool Runs(const Sequence& s) const { return IsOld(s) || Has(s.NextRoute()); }
  // Tokens of the chunk from its next row on that the set allows; 0: not worth a row.
  int32_t ChunkTokens(const Sequence& s) const {
    if (IsOld(s)) return INT32_MAX;
    const int32_t begin = s.next_row(), left = s.num_routed() - begin;
    int32_t count = 0;
    while (count < left && Has(s.routes[begin + count])) ++count;
    return count < std::min(left, kChunkTokensMin) ? 0 : count;
  }
  std::vector<ExpertId> TakeOrder() { return std::move(order_); }

 private:
  StepId Waited(const Sequence& s) const { return view_.step_id - s.idle_since; }
  bool IsOld(const Sequence& s) const { return Waited(s) > static_cast<StepId>(age_steps_); }
  bool Has(ExpertId e) const { return e != kNoRoute && demand_[e].in_step; }

  void Count(const Sequence& s) {
    if (ProposalBuilder::MayRunLate(view_, s) || ProposalBuilder::MayDecode(s)) {
      ExpertDemand& d = demand_[s.NextRoute()];
      ++d.tokens;
      decoding_.push_back(&s);
      d.known += 1 + static_cast<double>(Waited(s)) / std::max(age_steps_, 1);
      d.in_step |= IsOld(s);
    } else if (ProposalBuilder::MayPrefill(s)) {
      prompts_due_ |= Waited(s) > static_cast<StepId>(age_steps_ / 4);
      const int32_t begin = s.next_row();
      const int32_t end = std::min(s.num_routed(), begin + view_.step_tokens);
      for (int32_t i = begin; i < end; ++i) demand_[s.routes[i]].in_prompts = true;
    }
  }
  // Those that there is room for: no step waits for the experts of one that cannot come.
  void CountWaiting() {
    int32_t slots = view_.free_slots, blocks = 0;
    for (const RankBlocks& r : view_.free_blocks) blocks = std::max(blocks, r.num_blocks);
    blocks -= static_cast<int32_t>(view_.running.size());  // one to each that runs
    for (const Sequence* s : view_.waiting) {
      if (!ProposalBuilder::MayEnter(*s)) continue;
      blocks -= BlocksThrough(s->num_tokens());
      if (--slots < 0 || blocks < 0) break;
      Count(*s);
    }
  }
  void LookAtResidency() {
    for (size_t e = 0; e < demand_.size(); ++e) {
      const ExpertPlace& place = view_.experts[e];
      const int32_t units = place.units_resident + place.units_absent;
      demand_[e].resident =
          place.resident ? 1 : static_cast<double>(place.units_resident) / std::max(units, 1);
      demand_[e].is_there = place.resident || (view_.load_cost != nullptr &&
                                               view_.load_cost->IsHidden(place.units_absent));
    }
  }
  // Where those that decode now may go: how often a token leaves its expert is a habit of all, where
  // it goes then mostly the sequence's own.
  void Expect() {
    if (view_.habits == nullptr) return;
    const RouteHabits& habits = *view_.habits;
    std::vector<double> expected(demand_.size()), by_habit(demand_.size());
    for (const Sequence* s : decoding_) {
      const auto from = static_cast<size_t>(s->NextRoute());
      const absl::Span<const int32_t> own = s->expert_tokens;
      const int32_t here = from < own.size() ? own[from] : 0;
      const double leave = std::max(1 - habits.Chance(s->NextRoute(), s->NextRoute()), 1e-9);
      const double share = kExpectedSteps * leave / (s->routed - here + kHabitTokens);
      for (size_t to = 0; to < own.size(); ++to) expected[to] += share * own[to];
      expected[from] -= share * here;
      by_habit[from] += share * kHabitTokens / leave;
    }
    for (size_t to = 0; to < demand_.size(); ++to) {
      for (size_t from = 0; from < demand_.size(); ++from) {
        if (from == to || by_habit[from] == 0) continue;
        expected[to] +=
            by_habit[from] * habits.Chance(static_cast<ExpertId>(from), static_cast<ExpertId>(to));
      }
      demand_[to].expected = expected[to];
    }
  }
  void Order() {
    order_.resize(demand_.size());
    for (size_t e = 0; e < demand_.size(); ++e) order_[e] = static_cast<ExpertId>(e);
    std::sort(order_.begin(), order_.end(), [this](ExpertId a, ExpertId b) {
      const double worth_a = demand_[a].Worth(), worth_b = demand_[b].Worth();
      return worth_a != worth_b ? worth_a > worth_b : a < b;
    });
    while (!order_.empty() && demand_[order_.back()].Worth() == 0) order_.pop_back();
  }
  void ChooseSet() {
    const bool drained = std::none_of(demand_.begin(), demand_.end(), [](const ExpertDemand& d) {
      return d.is_there && d.tokens > 0;
    });
    bool any = false;
    for (ExpertDemand& d : demand_) {
      if (d.in_prompts && (drained || prompts_due_)) d.in_step = any = true;
      any |= d.in_step;
      if (d.is_there) d.in_step = true;
    }
    if (!drained || any) return;
    const auto best = std::find_if(order_.begin(), order_.end(),
                                   [this](ExpertId e) { return demand_[e].tokens > 0; });
    if (best == order_.end()) return;
    demand_[*best].in_step = true;
    std::rotate(order_.begin(), best, best + 1);  // it stays, whatever is expected elsewhere
  }

  const PlannerView& view_;
  const int32_t age_steps_;
  std::vector<const Sequence*> decoding_;  // that could run now
  std::vector<ExpertDemand> demand_;       // [experts]
  std::vector<ExpertId> order_;            // by worth
  bool prompts_due_ = false;
};

}  // namespace

Proposal HorizonPlanner::Propose(const PlannerView& view) const {
  const auto num_experts = static_cast<int32_t>(view.experts.size());
  if (view.expert_slots == 0 || view.expert_slots >= num_experts) {
    return FcfsPlanner().Propose(view);
  }
  StepPlanner plan(view, age_steps_);
  const Sequence* newcomer = Newcomer(view);
  ProposalBuilder builder =
      StartProposal(view, newcomer, newcomer == nullptr ? 0 : plan.ChunkTokens(*newcomer));
  for (size_t i = 0; i < view.running.size(); ++i) {
    if (plan.Runs(*view.running[i])) builder.AddDecodeRow(i);
  }
  for (size_t i = 0; i < view.running.size(); ++i) {
    if (ProposalBuilder::MayPrefill(*view.running[i])) {
      builder.AddChunk(i, plan.ChunkTokens(*view.running[i]));
    }
  }
  for (const Sequence* s : view.waiting) {
    if (builder.has_preempted()) break;
    if (!ProposalBuilder::MayEnter(*s)) continue;
    const int32_t tokens = plan.ChunkTokens(*s);
    if (tokens > 0 && !builder.Admit(*s, tokens)) break;
  }
  // What the set allows may lack blocks or tokens enough: then the oldest goes on.
  Proposal proposal = builder.has_rows() ? builder.Take() : FcfsPlanner().Propose(view);
  proposal.experts = plan.TakeOrder();
  return proposal;
}

}  // namespace pregate::scheduler

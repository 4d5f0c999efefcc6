#include "scheduler_service/core/wanted.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace pregate::scheduler {
namespace {

// Collects distinct experts until all are named.
class Naming {
 public:
  explicit Naming(int32_t num_experts) : named_(num_experts) {}
  bool done() const { return order_.size() == named_.size(); }
  void Name(const Sequence& s, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end && !done(); ++i) {
      const ExpertId e = s.routes[i];
      if (!named_[e]) order_.push_back(e);
      named_[e] = true;
    }
  }
  std::vector<ExpertId>& order() { return order_; }

 private:
  std::vector<bool> named_;
  std::vector<ExpertId> order_;
};

}  // namespace

NextUses ExactNextUses(const PlannerView& view, const Proposal& proposal, int32_t num_experts) {
  absl::flat_hash_map<SeqId, const Sequence*> by_id;
  for (const Sequence* s : view.running) by_id.emplace(s->id, s);
  for (const Sequence* s : view.waiting) by_id.emplace(s->id, s);
  Naming naming(num_experts);
  absl::flat_hash_map<SeqId, int32_t> sent_to;
  for (const ProposedRow& row : proposal.rows) {
    const Sequence& s = *by_id.at(row.seq_id);
    sent_to[row.seq_id] = row.position + row.count;
    if (!row.late && !s.dense) naming.Name(s, row.position, row.position + row.count);
  }
  NextUses uses;
  uses.num_in_step = static_cast<int32_t>(naming.order().size());
  std::sort(naming.order().begin(), naming.order().end());
  for (const auto& queue : {view.running, view.waiting}) {
    for (const Sequence* s : queue) {
      if (naming.done()) break;
      const auto it = sent_to.find(s->id);
      naming.Name(*s, it == sent_to.end() ? s->next_row() : it->second, s->routed);
    }
  }
  uses.experts = std::move(naming.order());
  return uses;
}

void WantedLists::Begin(std::vector<RankUnits> ranks, int32_t num_experts) {
  ranks_ = std::move(ranks);
  sent_.assign(ranks_.size(), {});
  last_use_.assign(num_experts, 0);
}

std::vector<Wanted> WantedLists::Update(const PlannerView& view, const Proposal& proposal) {
  NextUses uses;
  if (eviction_ != Eviction::kPlan || proposal.experts.empty()) {
    uses = ExactNextUses(view, proposal, static_cast<int32_t>(last_use_.size()));
  }
  for (int32_t i = 0; i < uses.num_in_step; ++i) last_use_[uses.experts[i]] = view.step_id;
  std::vector<Wanted> changed;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    Order order = OrderOf(ranks_[r], view, proposal, uses);
    if (order == sent_[r]) continue;
    changed.push_back(InUnits(ranks_[r], order));
    sent_[r] = std::move(order);
  }
  return changed;
}

WantedLists::Order WantedLists::OrderOf(const RankUnits& rank, const PlannerView& view,
                                        const Proposal& proposal, const NextUses& uses) const {
  Order order;
  if (eviction_ == Eviction::kPlan && !proposal.experts.empty()) {
    return PlannedOrder(rank, view, proposal.experts);
  }
  const auto holds = [&](ExpertId e) {
    return std::find(rank.experts.begin(), rank.experts.end(), e) != rank.experts.end();
  };
  const size_t num_named = eviction_ != Eviction::kLru ? uses.experts.size() : uses.num_in_step;
  for (size_t i = 0; i < num_named; ++i) {
    if (!holds(uses.experts[i])) continue;
    order.experts.push_back(uses.experts[i]);
    if (static_cast<int32_t>(i) < uses.num_in_step) ++order.num_in_step;
  }
  order.load_first = static_cast<int32_t>(order.experts.size());
  std::vector<ExpertId> rest;
  for (const ExpertId e : rank.experts) {
    const auto end = order.experts.end();
    if (std::find(order.experts.begin(), end, e) == end) rest.push_back(e);
  }
  std::stable_sort(rest.begin(), rest.end(),
                   [&](ExpertId a, ExpertId b) { return last_use_[a] > last_use_[b]; });
  order.experts.insert(order.experts.end(), rest.begin(), rest.end());
  return order;
}

// As many as fit. Those that are there come by id, so that the list stays while they do; then those
// that are on their way, the nearest to complete first.
WantedLists::Order WantedLists::PlannedOrder(const RankUnits& rank, const PlannerView& view,
                                             absl::Span<const ExpertId> plan) {
  Order order;
  const int32_t fit = std::max(rank.unit_slots / rank.num_layers, 1);
  for (const ExpertId e : plan) {
    if (order.load_first == fit) break;
    if (std::find(rank.experts.begin(), rank.experts.end(), e) == rank.experts.end()) continue;
    order.experts.push_back(e);
    ++order.load_first;
  }
  const auto incoming = std::stable_partition(order.experts.begin(), order.experts.end(),
                                              [&](ExpertId e) { return view.experts[e].resident; });
  std::sort(order.experts.begin(), incoming);
  std::stable_sort(incoming, order.experts.end(), [&](ExpertId a, ExpertId b) {
    return view.experts[a].units_resident > view.experts[b].units_resident;
  });
  return order;
}

Wanted WantedLists::InUnits(const RankUnits& rank, const Order& order) {
  Wanted wanted;
  wanted.rank = rank.rank;
  wanted.units.reserve(order.experts.size() * rank.num_layers);
  const auto in_step = absl::MakeConstSpan(order.experts).first(order.num_in_step);
  for (int32_t layer = 0; layer < rank.num_layers; ++layer) {
    for (const ExpertId e : in_step) wanted.units.push_back({layer, e});
  }
  for (const ExpertId e : absl::MakeConstSpan(order.experts).subspan(order.num_in_step)) {
    for (int32_t layer = 0; layer < rank.num_layers; ++layer) wanted.units.push_back({layer, e});
  }
  wanted.load_first = std::min(order.load_first * rank.num_layers, rank.unit_slots);
  return wanted;
}

}  // namespace pregate::scheduler

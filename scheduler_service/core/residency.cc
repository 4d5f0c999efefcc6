#include "scheduler_service/core/residency.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate::scheduler {

void UnitMirror::Reset(uint64_t incarnation, int32_t num_layers, int32_t num_experts,
                       absl::Span<const UnitId> resident) {
  if (incarnation != incarnation_) last_number_ = 0;
  may_jump_ = incarnation == incarnation_;
  incarnation_ = incarnation;
  num_layers_ = num_layers;
  num_experts_ = num_experts;
  states_.assign(static_cast<size_t>(num_layers) * num_experts, UnitState::kAbsent);
  resident_.assign(num_experts, 0);
  for (const UnitId& unit : resident) {
    if (IsKnown(unit)) Set(unit, UnitState::kResident);
  }
}

absl::Status UnitMirror::Apply(absl::Span<const UnitEvent> events) {
  absl::Status status;
  for (const UnitEvent& event : events) {
    if (event.number <= last_number_ || !IsKnown(event.unit)) {
      status.Update(absl::InvalidArgumentError(
          absl::StrCat("unit event ", event.number, " after ", last_number_, ": layer ",
                       event.unit.layer, ", expert ", event.unit.expert)));
      continue;
    }
    if (event.number != last_number_ + 1 && !may_jump_) {
      status.Update(absl::DataLossError(
          absl::StrCat("unit event ", event.number, " follows ", last_number_)));
    }
    may_jump_ = false;
    last_number_ = event.number;
    Set(event.unit, event.state);
  }
  return status;
}

UnitState UnitMirror::StateOf(const UnitId& unit) const {
  if (!IsKnown(unit)) return UnitState::kAbsent;
  return states_[static_cast<size_t>(unit.layer) * num_experts_ + unit.expert];
}

int32_t UnitMirror::num_resident(ExpertId expert) const {
  return expert >= 0 && expert < num_experts_ ? resident_[expert] : 0;
}

bool UnitMirror::IsKnown(const UnitId& unit) const {
  return unit.layer >= 0 && unit.layer < num_layers_ && unit.expert >= 0 &&
         unit.expert < num_experts_;
}

void UnitMirror::Set(const UnitId& unit, UnitState state) {
  UnitState& now = states_[static_cast<size_t>(unit.layer) * num_experts_ + unit.expert];
  num_arrived_ += state == UnitState::kResident && now != state;
  resident_[unit.expert] += (state == UnitState::kResident) - (now == UnitState::kResident);
  now = state;
}

void Residency::OnHello(int32_t rank, const Hello& hello) {
  Rank& r = ranks_[rank];
  r.num_layers = hello.facts.num_layers;
  r.unit_slots = hello.facts.num_layers > 0 ? hello.facts.unit_slots : 0;
  r.units.Reset(hello.incarnation, hello.facts.num_layers, hello.facts.num_experts,
                hello.resident_units);
}

absl::Status Residency::OnEvents(int32_t rank, absl::Span<const UnitEvent> events) {
  const auto it = ranks_.find(rank);
  return it == ranks_.end() ? absl::OkStatus() : it->second.units.Apply(events);
}

void Residency::BeginEpoch(absl::Span<const int32_t> members, const Placement& placement) {
  experts_.assign(placement.ranks.size(), {});
  for (size_t e = 0; e < experts_.size(); ++e) {
    for (int32_t index : placement.ranks[e]) experts_[e].ranks.push_back(members[index]);
  }
  std::vector<RankUnits> ranks;
  bool all_fit = true;
  expert_slots_ = 0;
  num_members_ = members.size();
  for (int32_t rank : members) {
    const Rank& r = ranks_[rank];
    RankUnits units{rank, r.num_layers, r.unit_slots, {}};
    for (size_t e = 0; e < experts_.size(); ++e) {
      const auto& holders = experts_[e].ranks;
      if (std::find(holders.begin(), holders.end(), rank) != holders.end()) {
        units.experts.push_back(static_cast<ExpertId>(e));
      }
    }
    const int32_t held = static_cast<int32_t>(units.experts.size());
    const bool fit = r.unit_slots == 0 || int64_t{held} * r.num_layers <= r.unit_slots;
    all_fit &= fit;
    expert_slots_ += fit ? held : std::max(r.unit_slots / r.num_layers, 1);
    if (!fit) ranks.push_back(std::move(units));
  }
  if (all_fit) expert_slots_ = 0;
  const auto num_experts = static_cast<int32_t>(experts_.size());
  wanted_.Begin(std::move(ranks), num_experts);
  num_layers_ = members.empty() ? 0 : ranks_[members[0]].num_layers;
  load_cost_ = {};
  PlannerView unused;
  Fill(&unused);
  reuse_.Begin(num_experts, expert_slots_, ResidentExperts());
}

void Residency::Fill(PlannerView* view) {
  for (size_t e = 0; e < experts_.size(); ++e) {
    if (experts_[e].ranks.empty()) continue;
    const Rank& rank = ranks_[experts_[e].ranks.front()];
    ExpertPlace& place = experts_[e];
    place.units_resident = rank.units.num_resident(static_cast<ExpertId>(e));
    place.units_absent = rank.unit_slots == 0 ? 0 : rank.num_layers - place.units_resident;
    place.resident = place.units_absent == 0;
  }
  view->experts = experts_;
  view->expert_slots = expert_slots_;
  view->load_cost = &load_cost_;
}

std::vector<Wanted> Residency::Want(const PlannerView& view, const Proposal& proposal) {
  return all_fit() ? std::vector<Wanted>() : wanted_.Update(view, proposal);
}

void Residency::OnStep(absl::Span<const ExpertId> named, double step_us, bool has_prefill) {
  if (all_fit()) return;
  int64_t arrived = 0, most = 0;
  for (auto& [id, rank] : ranks_) {
    const int64_t here =
        rank.units.num_arrived() - std::exchange(rank.num_counted, rank.units.num_arrived());
    arrived += here;
    most = std::max(most, here);
  }
  load_cost_.Observe(step_us, static_cast<int32_t>(most), has_prefill);
  PlannerView unused;
  Fill(&unused);
  reuse_.OnStep(named, arrived, num_layers_, ResidentExperts());
}

// A rank that holds all its units at once tells nothing of those that came with a placement.
std::vector<UnitState> Residency::UnitsOf(int32_t rank) const {
  const auto it = ranks_.find(rank);
  if (it == ranks_.end()) return {};
  std::vector<UnitState> units = it->second.units.states();
  if (it->second.unit_slots > 0) return units;
  for (size_t e = 0; e < experts_.size(); ++e) {
    const std::vector<int32_t>& ranks = experts_[e].ranks;
    if (std::find(ranks.begin(), ranks.end(), rank) == ranks.end()) continue;
    for (size_t i = e; i < units.size(); i += experts_.size()) units[i] = UnitState::kResident;
  }
  return units;
}

std::vector<ExpertId> Residency::ResidentExperts() {
  std::vector<ExpertId> resident;
  for (size_t e = 0; e < experts_.size(); ++e) {
    if (experts_[e].resident) resident.push_back(static_cast<ExpertId>(e));
  }
  return resident;
}

}  // namespace pregate::scheduler

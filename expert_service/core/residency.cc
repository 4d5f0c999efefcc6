#include "expert_service/core/residency.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace pregate {

Residency::Residency(int32_t num_layers, int32_t num_experts, int32_t num_slots)
    : num_experts_(num_experts),
      units_(size_t(num_layers) * num_experts),
      slots_(num_slots, kNone) {
  PREGATE_CHECK(num_slots >= 1, "slots ", num_slots);
}

void Residency::SetWanted(absl::Span<const UnitId> units, int32_t load_first) {
  for (const UnitId& unit : wanted_) entry(unit).wanted = kNone;
  wanted_.assign(units.begin(), units.end());
  load_first_ = load_first;
  for (size_t i = wanted_.size(); i-- > 0;) entry(wanted_[i]).wanted = static_cast<int32_t>(i);
}

void Residency::BeginStep(std::vector<UnitId> demand) {
  EndStep();
  ++step_;
  layer_ = 0;
  demand_ = std::move(demand);
  for (const UnitId& unit : demand_) entry(unit).demanded = true;
}

void Residency::EndStep() {
  for (const UnitId& unit : demand_) entry(unit).demanded = false;
  demand_.clear();
  next_demand_ = 0;
}

std::optional<UnitLoad> Residency::NextLoad(int32_t prefetches_max) {
  if (const auto load = NextDemandLoad()) return load;
  if (next_demand_ < demand_.size() || num_prefetching_ >= prefetches_max) return std::nullopt;
  return NextPrefetch();
}

std::optional<UnitLoad> Residency::NextDemandLoad() {
  for (; next_demand_ < demand_.size(); ++next_demand_) {
    const UnitId unit = demand_[next_demand_];
    const Entry& e = entry(unit);
    // One that is no longer demanded was resident, was used, and may have given way since.
    if (!e.demanded || e.state == UnitState::kResident) {
      ++counts_.hits;
      continue;
    }
    if (e.state == UnitState::kLoading) {
      ++counts_.late_prefetches;
      continue;
    }
    const auto load = StartLoad(unit);
    if (load) {
      ++counts_.misses;
      ++next_demand_;
    }
    return load;
  }
  return std::nullopt;
}

std::optional<UnitLoad> Residency::NextPrefetch() {
  for (int32_t i = 0; i < load_first_; ++i) {
    if (entry(wanted_[i]).state != UnitState::kAbsent) continue;
    auto load = StartLoad(wanted_[i]);
    if (load) {
      load->ahead = entry(load->unit).prefetched = true;
      ++num_prefetching_;
    }
    return load;
  }
  return std::nullopt;
}

std::optional<UnitLoad> Residency::StartLoad(const UnitId& unit) {
  const auto slot = FindSlot(MustOutlast(unit), /*spare=*/num_loading_ >= kCopiesMax);
  if (!slot) return std::nullopt;
  if (slots_[*slot] != kNone) {
    const UnitId victim = UnitAt(slots_[*slot]);
    entry(victim).slot = kNone;
    SetState(victim, UnitState::kAbsent);
    ++counts_.evictions;
  }
  slots_[*slot] = unit.layer * num_experts_ + unit.expert;
  entry(unit).slot = *slot;
  SetState(unit, UnitState::kLoading);
  ++num_loading_;
  ++counts_.loads;
  return UnitLoad{unit, *slot};
}

Residency::Need Residency::NeedOf(const UnitId& unit) const {
  const Entry& e = entry(unit);
  if (e.demanded) return {0, unit.layer};
  if (e.wanted != kNone) return {1, e.wanted};
  // The longest unused; of one step, the last layer: its turn comes last in the next step too.
  constexpr int64_t kLayersMax = int64_t{1} << 20;
  return {2, (step_ - e.last_use) * kLayersMax + unit.layer};
}

// A unit that gives way to this one is needed later than that.
Residency::Need Residency::MustOutlast(const UnitId& unit) const {
  const Need need = NeedOf(unit);
  const bool ahead = need.kind == 0 && unit.layer > layer_;
  return ahead ? Need{0, INT64_MAX} : need;
}

// A free slot, or the one whose unit is needed last, if that is later than `than`. `spare`: only one
// whose unit nobody needs.
std::optional<int32_t> Residency::FindSlot(const Need& than, bool spare) const {
  std::optional<int32_t> found;
  Need latest = than;
  for (int32_t slot = 0; slot < num_slots(); ++slot) {
    if (slots_[slot] == kNone) return slot;
    const Entry& e = units_[slots_[slot]];
    if (e.state != UnitState::kResident || e.leases > 0) continue;
    const Need need = NeedOf(UnitAt(slots_[slot]));
    if (need <= latest || (spare && need.kind < 2)) continue;
    latest = need;
    found = slot;
  }
  return found;
}

void Residency::OnLoaded(const UnitId& unit) {
  Entry& e = entry(unit);
  PREGATE_CHECK(e.state == UnitState::kLoading, "unit ", unit.layer, "/", unit.expert);
  --num_loading_;
  if (std::exchange(e.prefetched, false)) --num_prefetching_;
  SetState(unit, UnitState::kResident);
}

void Residency::Lease(const UnitId& unit) {
  PREGATE_CHECK(entry(unit).slot != kNone, "unit ", unit.layer, "/", unit.expert, " is absent");
  ++entry(unit).leases;
}

void Residency::Release(const UnitId& unit) {
  Return(unit);
  entry(unit).demanded = false;
  entry(unit).last_use = step_;
}

void Residency::Return(const UnitId& unit) {
  PREGATE_CHECK(entry(unit).leases > 0, "unit ", unit.layer, "/", unit.expert, " has no lease");
  --entry(unit).leases;
}

void Residency::SetState(const UnitId& unit, UnitState state) {
  entry(unit).state = state;
  events_.push_back({++num_events_, unit, state});
}

int32_t Residency::num_resident() const {
  return static_cast<int32_t>(std::count_if(units_.begin(), units_.end(), [](const Entry& e) {
    return e.state == UnitState::kResident;
  }));
}

std::vector<UnitId> Residency::ResidentUnits() const {
  std::vector<UnitId> units;
  for (size_t i = 0; i < units_.size(); ++i) {
    if (units_[i].state == UnitState::kResident) units.push_back(UnitAt(static_cast<int32_t>(i)));
  }
  return units;
}

std::vector<UnitEvent> Residency::TakeEvents() { return std::exchange(events_, {}); }

}  // namespace pregate

#include "scheduler_service/sim/expert_cache.h"

#include <algorithm>

namespace pregate::sim {

ExpertCache::ExpertCache(const CacheShape& shape)
    : shape_(shape),
      all_fit_(shape.slots >= shape.layers * shape.experts),
      states_(shape.layers * shape.experts, all_fit_ ? UnitState::kResident : UnitState::kAbsent),
      position_(states_.size(), kUnlisted),
      leased_(states_.size()),
      used_in_step_(states_.size()) {}

void ExpertCache::SetWanted(absl::Span<const UnitId> units, int32_t load_first, absl::Time now) {
  AdvanceTo(now);
  std::fill(position_.begin(), position_.end(), kUnlisted);
  wanted_.clear();
  for (size_t i = 0; i < units.size(); ++i) {
    const Unit unit = units[i].layer * shape_.experts + units[i].expert;
    position_[unit] = static_cast<int32_t>(i);
    if (static_cast<int32_t>(i) < load_first) wanted_.push_back(unit);
  }
  next_ahead_ = 0;
  if (loading_ >= 0) return;
  link_free_ = std::max(link_free_, now);
  StartNextAhead();
}

void ExpertCache::AdvanceTo(absl::Time now) {
  while (loading_ >= 0 && link_free_ <= now) {
    FinishLoad();
    StartNextAhead();
  }
}

absl::Time ExpertCache::RunLayer(int32_t layer, absl::Span<const ExpertId> experts,
                                 absl::Time now) {
  AdvanceTo(now);
  ReleaseLeases();
  counts_.references += experts.size();
  std::vector<Unit> absent;
  for (const ExpertId e : experts) {
    const Unit unit = layer * shape_.experts + e;
    used_in_step_[unit] = true;
    if (states_[unit] == UnitState::kResident) {
      ++counts_.hits;
      leases_.push_back(unit);
      leased_[unit] = true;
      continue;
    }
    ++(states_[unit] == UnitState::kLoading ? counts_.late : counts_.misses);
    absent.push_back(unit);
  }
  absl::Time t = now;
  for (const Unit unit : absent) t = Demand(unit, t);
  counts_.stall += t - now;
  if (loading_ < 0) {
    link_free_ = std::max(link_free_, t);
    StartNextAhead();
  }
  return t;
}

// When the unit is there.
absl::Time ExpertCache::Demand(Unit unit, absl::Time now) {
  while (states_[unit] != UnitState::kResident) {
    if (loading_ >= 0) {
      now = std::max(now, link_free_);
      FinishLoad();
      continue;
    }
    if (!FreeSlotBehind(-1)) {
      ReleaseLeases();  // the wave that fits is done
      FreeSlotBehind(-1);
    }
    StartLoad(unit, now);
  }
  leases_.push_back(unit);
  leased_[unit] = true;
  return now;
}

void ExpertCache::EndStep(absl::Time now) {
  AdvanceTo(now);
  ReleaseLeases();
  std::fill(used_in_step_.begin(), used_in_step_.end(), false);
  next_ahead_ = 0;
  if (loading_ >= 0) return;
  link_free_ = std::max(link_free_, now);
  StartNextAhead();
}

void ExpertCache::ReleaseLeases() {
  for (const Unit unit : leases_) leased_[unit] = false;
  leases_.clear();
}

bool ExpertCache::StartNextAhead() {
  for (; next_ahead_ < wanted_.size(); ++next_ahead_) {
    const Unit unit = wanted_[next_ahead_];
    if (states_[unit] != UnitState::kAbsent || used_in_step_[unit]) continue;
    if (!FreeSlotBehind(position_[unit])) return false;
    StartLoad(unit, link_free_);
    return true;
  }
  return false;
}

void ExpertCache::StartLoad(Unit unit, absl::Time at) {
  ++num_used_;
  ++counts_.loads;
  loading_ = unit;
  link_free_ = at + shape_.unit_load;
  Set(unit, UnitState::kLoading);
}

void ExpertCache::FinishLoad() {
  Set(loading_, UnitState::kResident);
  loading_ = -1;
}

bool ExpertCache::FreeSlotBehind(int32_t position) {
  if (num_used_ < shape_.slots) return true;
  Unit victim = -1;
  int32_t last = position;
  for (Unit unit = 0; unit < static_cast<Unit>(states_.size()); ++unit) {
    if (states_[unit] != UnitState::kResident || leased_[unit] || position_[unit] <= last) continue;
    victim = unit;
    last = position_[unit];
  }
  if (victim < 0) return false;
  --num_used_;
  Set(victim, UnitState::kAbsent);
  if (position_[victim] < static_cast<int32_t>(wanted_.size())) {
    next_ahead_ = std::min(next_ahead_, static_cast<size_t>(position_[victim]));
  }
  return true;
}

void ExpertCache::Set(Unit unit, UnitState state) {
  states_[unit] = state;
  events_.push_back({++last_event_, IdOf(unit), state});
}

std::vector<UnitId> ExpertCache::Resident() const {
  std::vector<UnitId> units;
  for (Unit unit = 0; unit < static_cast<Unit>(states_.size()); ++unit) {
    if (states_[unit] == UnitState::kResident) units.push_back(IdOf(unit));
  }
  return units;
}

}  // namespace pregate::sim

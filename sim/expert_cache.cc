#include "sim/expert_cache.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace pregate::sim {

ExpertCache::ExpertCache(const CacheShape& shape) : shape_(shape) {
  if (shape.slots >= shape.layers * shape.experts) return;
  residency_ = std::make_unique<Residency>(shape.layers, shape.experts, shape.slots);
}

void ExpertCache::SetWanted(absl::Span<const UnitId> units, int32_t load_first) {
  if (!all_fit()) residency_->SetWanted(units, load_first);
}

void ExpertCache::BeginStep(absl::Span<const ExpertId> experts, absl::Time now) {
  experts_.assign(experts.begin(), experts.end());
  references_ += static_cast<int64_t>(experts.size()) * shape_.layers;
  if (all_fit()) return;
  std::vector<UnitId> demand;
  for (int32_t layer = 0; layer < shape_.layers; ++layer) {
    for (const ExpertId e : experts) demand.push_back({layer, e});
  }
  residency_->BeginStep(std::move(demand));
  AdvanceTo(now);
}

absl::Time ExpertCache::RunLayer(int32_t layer, absl::Time now) {
  if (all_fit()) return now;
  residency_->BeginLayer(layer);
  absl::Time t = now;
  std::vector<ExpertId> left = experts_;
  while (!left.empty()) {
    AdvanceTo(t);
    const auto absent = std::stable_partition(left.begin(), left.end(), [&](ExpertId e) {
      return residency_->state({layer, e}) != UnitState::kResident;
    });
    for (auto e = absent; e != left.end(); ++e) Use({layer, *e});
    left.erase(absent, left.end());
    if (left.empty()) break;
    AdvanceTo(t);
    PREGATE_CHECK(!copies_.empty(), "layer ", layer, " has no slot");
    t = std::max(t, copies_.front().done);
  }
  AdvanceTo(t);
  stall_ += t - now;
  return t;
}

void ExpertCache::EndStep(absl::Time now) {
  if (all_fit()) return;
  residency_->EndStep();
  AdvanceTo(now);
}

void ExpertCache::AdvanceTo(absl::Time now) {
  if (all_fit()) return;
  while (!copies_.empty() && copies_.front().done <= now) {
    const Copy copy = copies_.front();
    copies_.pop_front();
    residency_->OnLoaded(copy.unit);
    Pump(copy.done);
  }
  Pump(now);
}

void ExpertCache::Pump(absl::Time now) {
  while (const auto load = residency_->NextLoad(kPrefetchesMax)) {
    link_free_ = std::max(link_free_, now) + shape_.unit_load;
    copies_.push_back({load->unit, link_free_});
  }
}

void ExpertCache::Use(const UnitId& unit) {
  residency_->Lease(unit);
  residency_->Release(unit);
}

CacheCounts ExpertCache::counts() const {
  if (all_fit()) return {.references = references_, .hits = references_};
  const ResidencyCounts& c = residency_->counts();
  return {references_, c.hits, c.late_prefetches, c.misses, c.loads, stall_};
}

std::vector<UnitId> ExpertCache::Resident() const {
  if (!all_fit()) return residency_->ResidentUnits();
  std::vector<UnitId> units;
  for (int32_t layer = 0; layer < shape_.layers; ++layer) {
    for (ExpertId e = 0; e < shape_.experts; ++e) units.push_back({layer, e});
  }
  return units;
}

std::vector<UnitEvent> ExpertCache::TakeEvents() {
  return all_fit() ? std::vector<UnitEvent>() : residency_->TakeEvents();
}

}  // namespace pregate::sim

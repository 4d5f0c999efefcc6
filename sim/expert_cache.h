// The worker's expert units in virtual time: the production policy (expert_service/core/residency)
// over one link, driven as the production store drives it (expert_service/engine/expert_store).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "expert_service/core/residency.h"

namespace pregate::sim {

struct CacheShape {
  int32_t layers = 0;
  int32_t experts = 0;
  int32_t slots = 0;  // units; layers * experts or more: everything is resident from the start
  absl::Duration unit_load;
};

struct CacheCounts {
  int64_t references = 0;  // (step, layer, expert that the step names)
  int64_t hits = 0;        // resident when the step comes to load it
  int64_t late = 0;        // on its way by then
  int64_t misses = 0;      // neither
  int64_t loads = 0;
  absl::Duration stall;  // layers wait for units
};

// The link copies one unit after the other and is never interrupted. Its queue is filled as far as
// slots can give way: when a step begins, before and after each layer's waves, and when it ends.
class ExpertCache {
 public:
  explicit ExpertCache(const CacheShape& shape);

  // Replaces the list.
  void SetWanted(absl::Span<const UnitId> units, int32_t load_first);
  // `experts`: that the step names, ascending.
  void BeginStep(absl::Span<const ExpertId> experts, absl::Time now);
  // A layer begins at `now`: returns when all its units have been there, wave by wave; until then
  // it waits. Its computing time comes on top.
  absl::Time RunLayer(int32_t layer, absl::Time now);
  void EndStep(absl::Time now);
  // What has arrived by `now`, and loads ahead in its place.
  void AdvanceTo(absl::Time now);

  bool all_fit() const { return residency_ == nullptr; }
  CacheCounts counts() const;
  std::vector<UnitId> Resident() const;
  // What has changed since the last call, with consecutive numbers.
  std::vector<UnitEvent> TakeEvents();

 private:
  struct Copy {
    UnitId unit;
    absl::Time done;
  };

  void Pump(absl::Time now);
  void Use(const UnitId& unit);

  const CacheShape shape_;
  std::unique_ptr<Residency> residency_;  // null: all fit
  std::vector<ExpertId> experts_;         // of the step
  std::deque<Copy> copies_;               // in the order of the link
  absl::Time link_free_ = absl::InfinitePast();
  int64_t references_ = 0;
  absl::Duration stall_;
};

}  // namespace pregate::sim

// The worker's expert units in virtual time: slots, one link, a wanted list (DESIGN section 5,
// "Residency"). A model for policies to be compared on, not the worker's code.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/step/result.h"

namespace pregate::sim {

struct CacheShape {
  int32_t layers = 0;
  int32_t experts = 0;
  int32_t slots = 0;  // units; layers * experts or more: everything is resident from the start
  absl::Duration unit_load;
};

struct CacheCounts {
  int64_t references = 0;  // (step, layer, expert that the step names)
  int64_t hits = 0;        // resident when the step comes to the layer
  int64_t late = 0;        // being loaded by then
  int64_t misses = 0;      // neither
  int64_t loads = 0;
  absl::Duration stall;  // a layer waits for units
};

// The link loads one unit at a time and is never interrupted. When free it takes, in this order:
//   what a layer waits for; the first n of the wanted list that are not resident, in order.
// A load takes an empty slot, or that of a victim: a unit that is not listed, else the one nearest
// the list's tail, and for a load ahead only one behind the loaded unit in the list. Units of the
// layer that runs are never victims before their group is done, and what the step has used and lost
// again is not loaded ahead before the step ends.
//
// A layer's own-expert part runs when the units it names are resident. Those that cannot all be
// there run in waves: the group with resident units first, each further unit as it arrives.
class ExpertCache {
 public:
  explicit ExpertCache(const CacheShape& shape);

  // Replaces the list; loads ahead begin at `now`.
  void SetWanted(absl::Span<const UnitId> units, int32_t load_first, absl::Time now);
  // A layer of a step begins at `now`: returns when all its units have been there; until then the
  // layer waits. `experts`: that the step names, ascending. Its computing time comes on top.
  absl::Time RunLayer(int32_t layer, absl::Span<const ExpertId> experts, absl::Time now);
  // The step's last layer is done.
  void EndStep(absl::Time now);
  // The link works on until `now`.
  void AdvanceTo(absl::Time now);

  bool all_fit() const { return all_fit_; }
  const CacheCounts& counts() const { return counts_; }
  std::vector<UnitId> Resident() const;
  // What has changed since the last call, with consecutive numbers.
  std::vector<UnitEvent> TakeEvents() { return std::exchange(events_, {}); }

 private:
  static constexpr int32_t kUnlisted = INT32_MAX;
  using Unit = int32_t;  // layer * experts + expert

  UnitId IdOf(Unit unit) const { return {unit / shape_.experts, unit % shape_.experts}; }
  void FinishLoad();
  bool StartNextAhead();
  void StartLoad(Unit unit, absl::Time at);
  absl::Time Demand(Unit unit, absl::Time now);
  bool FreeSlotBehind(int32_t position);
  void ReleaseLeases();
  void Set(Unit unit, UnitState state);

  const CacheShape shape_;
  const bool all_fit_;
  std::vector<UnitState> states_;   // [unit]
  std::vector<int32_t> position_;   // [unit] in the list
  std::vector<Unit> leases_;        // of the layer that runs
  std::vector<bool> leased_;        // [unit]
  std::vector<bool> used_in_step_;  // [unit]
  std::vector<Unit> wanted_;        // the first n
  size_t next_ahead_ = 0;           // in wanted_: all before it are there, or wait for EndStep
  int32_t num_used_ = 0;            // slots
  Unit loading_ = -1;
  absl::Time link_free_ = absl::InfinitePast();
  uint64_t last_event_ = 0;
  std::vector<UnitEvent> events_;
  CacheCounts counts_;
};

}  // namespace pregate::sim

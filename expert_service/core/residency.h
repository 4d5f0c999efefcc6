// Which expert units sit in which slots of a rank, what is loaded next and what gives way
// (docs/CONTRACTS.md, "Residency"). Pure: the engine's store moves the bytes.
//
// A unit is needed by the step that runs (demand), or wanted by the scheduler (by next use), or
// neither. What is loaded next: demand in the order of layers, then the first of what is wanted.
// What gives way: first what nobody wants, the longest unused first (of one step, the last layer:
// its turn comes last in the next step too); then the wanted from the
// list's tail; never a leased unit. Demand of later layers gives way only to the layer that waits,
// the last layer first: a load ahead that displaced it would cost another load. A load of what is
// wanted displaces nothing that is wanted sooner. So one slot is enough for any step, and steps
// that need more units than there are slots keep those of the layers to come.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "common/step/plan.h"
#include "common/step/result.h"

namespace pregate {

// Loads ahead of demand that are under way at once: a demand load waits behind them.
inline constexpr int32_t kPrefetchesMax = 2;
// Copies under way beyond which a load displaces nothing that is needed: two keep the link busy, and
// each further one would only take a unit's place earlier than it must.
inline constexpr int32_t kCopiesMax = 2;

struct UnitLoad {
  UnitId unit;
  int32_t slot = 0;
  bool ahead = false;  // of demand
};

struct ResidencyCounts {
  int64_t hits = 0;             // demanded units that were resident when the step came to load
  int64_t misses = 0;           // that were absent
  int64_t late_prefetches = 0;  // that were on their way
  int64_t evictions = 0;
  int64_t loads = 0;
};

// Not thread-safe. REQUIRES everywhere: units in range.
class Residency {
 public:
  Residency(int32_t num_layers, int32_t num_experts, int32_t num_slots);

  // The scheduler's list, most urgent first, replaces the one before; the first `load_first` are to
  // be loaded.
  void SetWanted(absl::Span<const UnitId> units, int32_t load_first);
  // What the step will lease, in the order of layers.
  void BeginStep(std::vector<UnitId> demand);
  // The step has come to this layer (0 after BeginStep).
  void BeginLayer(int32_t layer) { layer_ = layer; }
  // What is left of the demand (an aborted step) is forgotten.
  void EndStep();

  // The next load that has a slot; it counts as loading from now on. None: nothing is to be loaded,
  // no slot can give way, or `prefetches_max` loads that no step demands are under way.
  std::optional<UnitLoad> NextLoad(int32_t prefetches_max);
  void OnLoaded(const UnitId& unit);
  // After NextLoad had none: whether a load that the step demands could begin but for a slot, which a
  // unit of the step has to leave.
  bool lacks_slot() const { return next_demand_ < demand_.size() && num_loading_ < kCopiesMax; }

  // A leased unit stays. Release ends the demand of the step for it; Return is for one that was not
  // used after all, and leaves everything as it was before the lease.
  void Lease(const UnitId& unit);
  void Release(const UnitId& unit);
  void Return(const UnitId& unit);

  UnitState state(const UnitId& unit) const { return entry(unit).state; }
  int32_t slot(const UnitId& unit) const { return entry(unit).slot; }  // -1: absent
  int32_t num_slots() const { return static_cast<int32_t>(slots_.size()); }
  int32_t num_resident() const;
  std::vector<UnitId> ResidentUnits() const;
  const ResidencyCounts& counts() const { return counts_; }
  // What has happened since the last call; numbers run on.
  std::vector<UnitEvent> TakeEvents();

 private:
  static constexpr int32_t kNone = -1;
  struct Entry {
    UnitState state = UnitState::kAbsent;
    int32_t slot = kNone;
    int32_t leases = 0;
    int32_t wanted = kNone;  // place in the list
    bool demanded = false;   // by the step that runs, not yet released
    bool prefetched = false;
    int64_t last_use = 0;  // step
  };
  // When a unit is needed; what compares greater gives way first.
  struct Need {
    int32_t kind;  // 0: demand, 1: wanted, 2: neither
    int64_t order;
    auto operator<=>(const Need&) const = default;
  };

  Entry& entry(const UnitId& unit) { return units_[unit.layer * num_experts_ + unit.expert]; }
  const Entry& entry(const UnitId& unit) const {
    return units_[unit.layer * num_experts_ + unit.expert];
  }
  UnitId UnitAt(int32_t index) const { return {index / num_experts_, index % num_experts_}; }
  Need NeedOf(const UnitId& unit) const;
  Need MustOutlast(const UnitId& unit) const;
  std::optional<int32_t> FindSlot(const Need& than, bool spare) const;
  std::optional<UnitLoad> NextDemandLoad();
  std::optional<UnitLoad> NextPrefetch();
  std::optional<UnitLoad> StartLoad(const UnitId& unit);
  void SetState(const UnitId& unit, UnitState state);

  const int32_t num_experts_;
  std::vector<Entry> units_;    // [layers * experts]
  std::vector<int32_t> slots_;  // unit index, or kNone
  std::vector<UnitId> wanted_;
  int32_t load_first_ = 0;
  std::vector<UnitId> demand_;  // in the order of layers
  size_t next_demand_ = 0;      // all before it are loaded, loading or done
  int32_t layer_ = 0;           // that the step has come to
  int32_t num_loading_ = 0;
  int32_t num_prefetching_ = 0;  // of those
  int64_t step_ = 0;
  ResidencyCounts counts_;
  std::vector<UnitEvent> events_;
  uint64_t num_events_ = 0;
};

}  // namespace pregate

// What every rank holds of the experts' units, mirrored from what it says, and what it should hold
// (docs/CONTRACTS.md, "Residency"). The worker's residency is the truth; the scheduler names units,
// never slots.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/step/control.h"
#include "scheduler_service/core/load_cost.h"
#include "scheduler_service/core/optimal_cache.h"
#include "scheduler_service/core/planner.h"
#include "scheduler_service/core/wanted.h"

namespace pregate::scheduler {

// One rank's units. Starts empty. Not thread-safe.
class UnitMirror {
 public:
  // A Hello. Events of the same incarnation may have been lost before it, so numbers may jump here.
  void Reset(uint64_t incarnation, int32_t num_layers, int32_t num_experts,
             absl::Span<const UnitId> resident);
  // DATA_LOSS: a number is missing. The events are applied all the same: each tells its unit's
  // state, so the mirror is wrong about the lost one's unit only, until the next. INVALID_ARGUMENT:
  // a unit that the model has not, or a number for the second time; that event is ignored.
  absl::Status Apply(absl::Span<const UnitEvent> events);

  UnitState StateOf(const UnitId& unit) const;
  const std::vector<UnitState>& states() const { return states_; }  // [layer x expert]
  // Layers of the expert that are resident.
  int32_t num_resident(ExpertId expert) const;
  // Units that have arrived, ever.
  int64_t num_arrived() const { return num_arrived_; }

 private:
  bool IsKnown(const UnitId& unit) const;
  void Set(const UnitId& unit, UnitState state);

  uint64_t incarnation_ = 0;
  uint64_t last_number_ = 0;
  bool may_jump_ = false;
  int32_t num_layers_ = 0;
  int32_t num_experts_ = 0;
  std::vector<UnitState> states_;  // [layer x expert]
  std::vector<int32_t> resident_;  // [expert]
  int64_t num_arrived_ = 0;
};

// The cell's residency. Not thread-safe.
class Residency {
 public:
  explicit Residency(Eviction eviction) : wanted_(eviction) {}

  void OnHello(int32_t rank, const Hello& hello);
  // As UnitMirror::Apply. Ranks that said no Hello are ignored.
  absl::Status OnEvents(int32_t rank, absl::Span<const UnitEvent> events);
  // A new epoch: where the experts live now. Ranks keep what they hold.
  void BeginEpoch(absl::Span<const int32_t> members, const Placement& placement);

  // Every member holds all its units at once: nothing is wanted, late rows are fine.
  bool all_fit() const { return expert_slots_ == 0; }
  // A worker that runs everything itself leaves out drafts whose experts it has not at hand.
  bool takes_drafts() const { return all_fit() || num_members_ == 1; }
  // What planners look at. Valid until the next change.
  void Fill(PlannerView* view);
  // The lists that have changed. REQUIRES: the view was filled, the proposal is made of it.
  std::vector<Wanted> Want(const PlannerView& view, const Proposal& proposal);
  // A step has ended that named these experts, and its events are applied.
  void OnStep(absl::Span<const ExpertId> named, double step_us, bool has_prefill);
  // [layer x expert] of the rank, by layer; empty: it said no Hello, or has no units.
  std::vector<UnitState> UnitsOf(int32_t rank) const;
  // What the steps loaded beside what an optimal cache would have, lately.
  const Reuse& reuse() const { return reuse_.reuse(); }

 private:
  struct Rank {
    int32_t num_layers = 0;
    int32_t unit_slots = 0;  // units that fit at once; 0: all
    UnitMirror units;
    int64_t num_counted = 0;  // of its arrivals
  };

  std::vector<ExpertId> ResidentExperts();

  absl::btree_map<int32_t, Rank> ranks_;
  std::vector<ExpertPlace> experts_;
  int32_t expert_slots_ = 0;
  size_t num_members_ = 0;
  int32_t num_layers_ = 0;  // of the members' experts
  WantedLists wanted_;
  LoadCost load_cost_;
  ReuseWindow reuse_;
};

}  // namespace pregate::scheduler

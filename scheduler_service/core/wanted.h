// The policy behind StepPlan.wanted: which units each rank should hold, most urgent first.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler_service/core/planner.h"

namespace pregate::scheduler {

//   lru       the units of the step, then experts by how recently a step named them; only the
//             step's are loaded
//   next_use  the units of the step, then experts by how soon a known route names them (Belady's
//             order over what is queued), then those that nothing queued names, by how recently a
//             step did; loaded ahead as far as they fit
//   plan      the experts that the planner names, as many as fit; next_use where it names none
enum class Eviction { kLru, kNextUse, kPlan };

// A member where not all units fit at once.
struct RankUnits {
  int32_t rank = 0;
  int32_t num_layers = 0;
  int32_t unit_slots = 0;         // units that fit
  std::vector<ExpertId> experts;  // that it holds
};

// The experts that exact next uses name, soonest first: the rows of the proposal, then the tokens
// of running sequences that are known and not sent, then those of waiting ones, oldest first. A
// late row's route is not known, so it names none. `num_in_step`: how many of them the step itself
// names (those by id).
struct NextUses {
  std::vector<ExpertId> experts;
  int32_t num_in_step = 0;
};
NextUses ExactNextUses(const PlannerView& view, const Proposal& proposal, int32_t num_experts);

// Remembers what was named last, and when. Not thread-safe.
class WantedLists {
 public:
  explicit WantedLists(Eviction eviction) : eviction_(eviction) {}

  // Every list is due again.
  void Begin(std::vector<RankUnits> ranks, int32_t num_experts);
  // The lists that differ from those before. The step's units come layer by layer, as it needs
  // them; further experts' one after another.
  std::vector<Wanted> Update(const PlannerView& view, const Proposal& proposal);

 private:
  // A list before it is spelt out in units.
  struct Order {
    std::vector<ExpertId> experts;
    int32_t num_in_step = 0;
    int32_t load_first = 0;  // experts
    bool operator==(const Order&) const = default;
  };

  Order OrderOf(const RankUnits& rank, const PlannerView& view, const Proposal& proposal,
                const NextUses& uses) const;
  static Order PlannedOrder(const RankUnits& rank, const PlannerView& view,
                            absl::Span<const ExpertId> plan);
  static Wanted InUnits(const RankUnits& rank, const Order& order);

  Eviction eviction_;
  std::vector<RankUnits> ranks_;
  std::vector<Order> sent_;       // [ranks]
  std::vector<StepId> last_use_;  // [expert]
};

}  // namespace pregate::scheduler

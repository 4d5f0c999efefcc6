#include "scheduler_service/core/policies.h"

#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

// Resident tokens run all the while, and a load takes dozens of steps: a bound below that would force
// loads (docs/OFFLOAD.md).
constexpr int32_t kAgeSteps = 64;

}  // namespace

std::vector<std::string> PlannerNames() {
  return {"fcfs", "prefill_first", "longest_queue", "by_expert", "horizon"};
}

std::unique_ptr<const Planner> MakePlanner(std::string_view name, const PlannerOptions& options) {
  const int32_t age_steps = options.age_steps < 0 ? kAgeSteps : options.age_steps;
  if (name == "fcfs") return std::make_unique<FcfsPlanner>();
  if (name == "prefill_first") return std::make_unique<PrefillFirstPlanner>(age_steps);
  if (name == "longest_queue") return std::make_unique<LongestQueuePlanner>(age_steps);
  if (name == "horizon") return std::make_unique<HorizonPlanner>(age_steps);
  PREGATE_CHECK(name == "by_expert", "policy ", std::string(name));
  ByExpertOptions by_expert{.experts_max = options.experts_max,
                            .chunk_tokens = options.chunk_tokens};
  if (options.age_steps >= 0) by_expert.age_steps = options.age_steps;
  return std::make_unique<ByExpertPlanner>(by_expert);
}

std::vector<std::string> EvictionNames() { return {"lru", "next_use", "plan"}; }

Eviction EvictionNamed(std::string_view name) {
  if (name == "lru") return Eviction::kLru;
  if (name == "plan") return Eviction::kPlan;
  PREGATE_CHECK(name == "next_use", "eviction ", std::string(name));
  return Eviction::kNextUse;
}

}  // namespace pregate::scheduler

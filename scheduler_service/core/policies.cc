#include "scheduler_service/core/policies.h"

#include "common/base/status.h"

namespace pregate::scheduler {

std::vector<std::string> PlannerNames() { return {"fcfs", "by_expert"}; }

std::unique_ptr<const Planner> MakePlanner(std::string_view name, const ByExpertOptions& options) {
  if (name == "fcfs") return std::make_unique<FcfsPlanner>();
  PREGATE_CHECK(name == "by_expert", "policy ", std::string(name));
  return std::make_unique<ByExpertPlanner>(options);
}

std::vector<std::string> EvictionNames() { return {"lru", "next_use"}; }

Eviction EvictionNamed(std::string_view name) {
  if (name == "lru") return Eviction::kLru;
  PREGATE_CHECK(name == "next_use", "eviction ", std::string(name));
  return Eviction::kNextUse;
}

}  // namespace pregate::scheduler

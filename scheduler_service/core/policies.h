// The policies by name: what options, `simulate` and the engine know of them. A new one is named here.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler_service/core/by_expert_planner.h"
#include "scheduler_service/core/wanted.h"

namespace pregate::scheduler {

// Who shares a step.
std::vector<std::string> PlannerNames();
// REQUIRES: one of PlannerNames.
std::unique_ptr<const Planner> MakePlanner(std::string_view name, const ByExpertOptions& options);

// Which experts leave where not all fit.
std::vector<std::string> EvictionNames();
// REQUIRES: one of EvictionNames.
Eviction EvictionNamed(std::string_view name);

}  // namespace pregate::scheduler

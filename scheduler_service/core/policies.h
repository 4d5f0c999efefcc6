// The policies by name: what options, `simulate` and the engine know of them. A new one is named here.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler_service/core/baseline_planners.h"
#include "scheduler_service/core/by_expert_planner.h"
#include "scheduler_service/core/horizon_planner.h"
#include "scheduler_service/core/wanted.h"

namespace pregate::scheduler {

struct PlannerOptions {
  int32_t age_steps = -1;     // that a sequence may be passed over; -1: what suits the policy
  int32_t experts_max = 0;    // by_expert's
  int32_t chunk_tokens = 32;  // by_expert's
};

// Who shares a step.
//   fcfs           decode tokens first, then prompts: the field's decode-first
//   prefill_first  prompts first: the field's other way
//   longest_queue  the paper's Algorithm 1, mended
//   by_expert      few experts a step, resident ones first
//   horizon        the default
std::vector<std::string> PlannerNames();
// REQUIRES: one of PlannerNames.
std::unique_ptr<const Planner> MakePlanner(std::string_view name, const PlannerOptions& options);

// Which experts leave where not all fit.
std::vector<std::string> EvictionNames();
// REQUIRES: one of EvictionNames.
Eviction EvictionNamed(std::string_view name);

}  // namespace pregate::scheduler

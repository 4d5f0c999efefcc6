// What a simulation found, and its JSON: the same numbers give the same bytes.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "sim/expert_cache.h"
#include "sim/sim_worker.h"

namespace pregate::sim {

// Seconds. Percentiles are the nearest rank of all samples, not an estimate.
struct Distribution {
  int64_t count = 0;
  double mean = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
};
Distribution Summarize(std::vector<float> seconds);

struct Report {
  int64_t requests = 0;
  int64_t finished = 0;
  int64_t refused = 0;
  int64_t preemptions = 0;
  int64_t prompt_tokens = 0;     // of finished requests
  int64_t generated_tokens = 0;  // of finished requests
  double virtual_s = 0;          // from the first arrival to the last token
  Distribution ttft, itl;
  Distribution normalized;  // end-to-end latency / generated tokens
  StepCounts steps;
  CacheCounts cache;
  // A window of references, for the optimum to be computed on.
  int64_t window_references = 0;
  int64_t window_loads = 0;  // of the policy
  // Of caches that load on demand, on the order that was executed.
  int64_t window_optimal_loads = 0;
  int64_t window_lru_loads = 0;
  int64_t window_random_loads = 0;
};

nlohmann::json ToJson(const Report& report);

}  // namespace pregate::sim

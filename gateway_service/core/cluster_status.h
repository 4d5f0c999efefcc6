// What a cluster does, for people who look on, as plain structs and as the JSON of GET
// /v1/pregate/cluster (docs/API.md). The codec from protobuf is the edge's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate::gateway {

struct WorkerStatus {
  int32_t rank = 0;
  bool up = false;
  bool member = false;  // of the cell
  std::string device;
  int32_t unit_slots = 0;  // 0: all of its units fit
  std::string
      units;  // [layer x expert] one byte each: 0 absent, 1 on its way, 2 resident, 3 failed
  int64_t unit_hits = 0, unit_misses = 0, stall_us = 0;
};

struct StepStatus {
  int64_t number = 0;
  int64_t begin_us = 0;  // since 1970
  int64_t round_trip_us = 0, step_us = 0;
  int32_t decode_rows = 0, prefill_rows = 0, prefill_tokens = 0;
  int32_t draft_tokens = 0, accepted_draft_tokens = 0;
  std::vector<ExpertId> experts;  // that its routes named
  int32_t unique_experts = 0;     // that ran, each counted at each worker
  int64_t unit_hits = 0, unit_misses = 0, stall_us = 0;
};

struct CellStatus {
  std::string model;
  int32_t num_experts = 0;  // 0: dense
  bool serving = false;
  uint64_t epoch = 0;
  bool router_up = false;
  int32_t requests_running = 0, requests_waiting = 0;
  int64_t kv_blocks = 0, kv_blocks_used = 0, kv_blocks_cached = 0;
  double reuse_ratio = 0, optimal_reuse_ratio = 0;
  int64_t routed_ahead_tokens = 0;
  std::vector<WorkerStatus> workers;  // by rank
  std::vector<StepStatus> steps;      // oldest first
};

struct SchedulerStatus {
  std::string name;                // its address
  std::optional<CellStatus> cell;  // nothing: it did not answer
  std::string why_not;             // where there is no cell
};

// {"object": "cluster", "schedulers": [...]}. A worker's units are one text a layer, one letter an
// expert: "." absent, "l" on its way, "r" resident, "x" failed, "?" what nobody knows.
std::string ClusterBody(absl::Span<const SchedulerStatus> schedulers);

}  // namespace pregate::gateway

// A cluster's last steps as a timeline in Chrome's trace format, which Perfetto and chrome://tracing
// open: a process a rank, with the rows compute, exchange, loads and stalls; one for the scheduler,
// with each step from its plan to the last answer.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "nlohmann/json.hpp"
#include "pregate/v1/inference.pb.h"

namespace pregate::cli {

// What takes a worker's clock to the scheduler's, and how wrong that may be.
struct ClockOffset {
  int64_t offset_us = 0;
  int64_t error_us = 0;
};

// By rank and incarnation. A plan is taken after it was sent, and an answer comes after it was made:
// the offset lies between the latest of the first and the earliest of the second, and the middle is
// taken.
using WorkerClocks = std::map<std::pair<int32_t, uint64_t>, ClockOffset>;
WorkerClocks EstimateClocks(const v1::GetClusterStatusResponse& status);

// {"steps": N, "ranks": [{"rank", "steps", "clock", "clock_error_us", "compute_us", "exchange_us",
// "loads_us", "stalls_us"}]}: sums over the steps.
nlohmann::json SummarizeTimeline(const v1::GetClusterStatusResponse& status,
                                 const WorkerClocks& clocks);

// All steps of `status` that have a timeline, and its summary. Times are microseconds since the first
// event.
nlohmann::json ToTraceEvents(const v1::GetClusterStatusResponse& status, const WorkerClocks& clocks,
                             const nlohmann::json& summary);

}  // namespace pregate::cli

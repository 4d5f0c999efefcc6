// The production engine, planner and residency under virtual time: a trace of requests comes in, a
// simulated router and worker answer at the costs of a machine, clients write down when tokens
// come.
//
//   trace ──▶ clients ──Submit──▶ SchedulerEngine ──Plan──▶ SimWorker (ExpertCache)
//                ▲                    │    ▲    └──tokens──▶ SimRouter
//                └──────tokens────────┘    └─ Agenda: virtual time
//
// One thread, no clock but the agenda's: a run is a function of its options and its trace.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduler_service/engine/options.h"
#include "sim/cost_file.h"
#include "sim/report.h"
#include "sim/route_record.h"
#include "sim/sim_worker.h"
#include "sim/trace.h"

namespace pregate::sim {

struct SimulationOptions {
  EngineOptions engine;  // policies, budgets, queue
  WorkerShape worker;
  Costs costs;
  double locality = 0.71;
  std::shared_ptr<const RouteRecord>
      routes;             // null: a chain of this locality. REQUIRES: of as many
                          // experts as the costs
  double rate_scale = 1;  // arrivals come so many times faster
  uint64_t seed = 1;
  int64_t optimum_references = 2'000'000;  // of the window that the optimum is computed on
  // Now and then, with the requests that are done; may be empty.
  std::function<void(int64_t done, int64_t total)> progress;
};

// INTERNAL: the engine recovered from something, which nothing here gives cause for.
absl::StatusOr<Report> Simulate(const SimulationOptions& options,
                                const std::vector<TraceRequest>& trace);

}  // namespace pregate::sim

// A router and workers on this machine's CPU, each with its own device and thread pool.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/collective/local/local_fabric.h"
#include "common/device/device.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "expert_service/engine/worker_loader.h"
#include "expert_service/engine/worker_metrics.h"
#include "router_service/engine/router_engine.h"
#include "router_service/engine/router_metrics.h"

namespace pregate::cli {

// KV memory of a worker that shares its process: a long context of a small model in f32.
inline constexpr int64_t kLocalKvCacheBytes = int64_t{1} << 30;

// Destroyed in the reverse order of declaration: loops stop before their devices go.
struct LocalServices {
  std::unique_ptr<RouterMetrics> router_metrics;
  std::unique_ptr<Device> router_device;
  std::unique_ptr<RouterEngine> router;  // null for a dense model
  std::unique_ptr<LocalFabric> fabric;   // null with one worker
  std::vector<std::unique_ptr<WorkerMetrics>> worker_metrics;
  std::vector<LoadedWorker> workers;  // by rank
};

// All read the model of `options`, which are each worker's; options.world_size says how many there
// are, rank is set. The router has one thread. `clock`, `registry`, `log` and `spans` (null: nobody
// collects them) outlive the services. on_broken: each worker's; may be empty.
absl::StatusOr<LocalServices> StartLocalServices(
    const WorkerOptions& options, Clock* clock, MetricsRegistry* registry, const Log* log,
    SpanSink* spans = nullptr, const std::function<void(const absl::Status&)>& on_broken = {});

}  // namespace pregate::cli

// A router and a worker on this machine's CPU, each with its own device and thread pool.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/device/device.h"
#include "common/model/checkpoint.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "expert_service/engine/worker.h"
#include "router_service/engine/router_engine.h"

namespace pregate::cli {

struct LocalServicesOptions {
  DType dtype = DType::kF32;
  int32_t threads = 0;  // of the worker's device; 0: all cores. The router has one.
  int64_t kv_cache_bytes = int64_t{1} << 30;
  int32_t seq_slots = 64;
  int32_t step_tokens = 256;
  std::string config_digest;
  const Log* log = nullptr;  // outlives the services
};

// Destroyed in the reverse order of declaration: loops stop before their devices go.
struct LocalServices {
  std::unique_ptr<Device> router_device, worker_device;
  std::unique_ptr<RouterEngine> router;  // null for a dense model
  std::unique_ptr<WorkerLoop> worker;
};

// `clock` and `registry` outlive the services; `checkpoint` is needed only during the call.
absl::StatusOr<LocalServices> StartLocalServices(const Checkpoint& checkpoint, Clock* clock,
                                                 MetricsRegistry* registry,
                                                 const LocalServicesOptions& options);

}  // namespace pregate::cli

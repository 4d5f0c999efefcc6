#include "cli/local_services.h"

#include "common/base/random_id.h"
#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"

namespace pregate::cli {
namespace {

absl::StatusOr<std::unique_ptr<WorkerLoop>> StartWorker(const Checkpoint& checkpoint,
                                                        Device* device, Clock* clock,
                                                        const LocalServicesOptions& options) {
  ExecutorOptions executor_options;
  executor_options.dtype = options.dtype;
  executor_options.kv_cache_bytes = options.kv_cache_bytes;
  executor_options.seq_slots = options.seq_slots;
  executor_options.step_tokens = options.step_tokens;
  ASSIGN_OR_RETURN(auto executor,
                   StepExecutor::Create(checkpoint, device, clock, executor_options, nullptr));
  WorkerOptions worker_options;
  worker_options.incarnation = RandomId();
  worker_options.config_digest = options.config_digest;
  return std::make_unique<WorkerLoop>(
      std::make_unique<Worker>(worker_options, std::move(executor), clock, options.log));
}

}  // namespace

absl::StatusOr<LocalServices> StartLocalServices(const Checkpoint& checkpoint, Clock* clock,
                                                 MetricsRegistry* registry,
                                                 const LocalServicesOptions& options) {
  LocalServices services;
  if (checkpoint.spec().router) {
    services.router_device = MakeCpuDevice({.threads = 1});
    RouterEngineOptions router_options;
    router_options.boot_id = RandomId();
    ASSIGN_OR_RETURN(services.router, RouterEngine::Start(checkpoint, *services.router_device,
                                                          *clock, *registry, router_options));
  }
  services.worker_device = MakeCpuDevice({.threads = options.threads});
  ASSIGN_OR_RETURN(services.worker,
                   StartWorker(checkpoint, services.worker_device.get(), clock, options));
  return services;
}

}  // namespace pregate::cli

#include "cli/local_services.h"

#include "common/base/process.h"
#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate::cli {

absl::StatusOr<LocalServices> StartLocalServices(
    const WorkerOptions& options, Clock* clock, MetricsRegistry* registry, const Log* log,
    SpanSink* spans, const std::function<void(const absl::Status&)>& on_broken) {
  LocalServices services;
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(options.model));
  if (checkpoint->spec().router) {
    const RouterEngineOptions router_options{.boot_id = RandomId()};
    services.router_metrics =
        std::make_unique<RouterMetrics>(registry, log, router_options.step_tokens_max, spans);
    services.router_device = MakeCpuDevice({.threads = 1});
    ASSIGN_OR_RETURN(services.router,
                     RouterEngine::Start(*checkpoint, *services.router_device, *clock,
                                         *services.router_metrics, router_options));
  }
  if (options.world_size > 1) services.fabric = std::make_unique<LocalFabric>();
  for (int32_t rank = 0; rank < options.world_size; ++rank) {
    WorkerOptions worker = options;
    worker.rank = rank;
    worker.device_sharers = options.world_size - rank;
    services.worker_metrics.push_back(std::make_unique<WorkerMetrics>(registry, log, rank, spans));
    ASSIGN_OR_RETURN(services.workers.emplace_back(),
                     LoadWorker(worker, clock, services.fabric.get(),
                                services.worker_metrics.back().get(), on_broken));
  }
  return services;
}

}  // namespace pregate::cli

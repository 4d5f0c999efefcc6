#include "cli/local_services.h"

#include "common/base/random_id.h"
#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate::cli {

absl::StatusOr<LocalServices> StartLocalServices(const WorkerHostOptions& options, Clock* clock,
                                                 MetricsRegistry* registry, const Log* log) {
  LocalServices services;
  ASSIGN_OR_RETURN(const auto checkpoint, Checkpoint::Open(options.model));
  if (checkpoint->spec().router) {
    services.router_device = MakeCpuDevice({.threads = 1});
    const RouterEngineOptions router_options{.boot_id = RandomId()};
    ASSIGN_OR_RETURN(services.router, RouterEngine::Start(*checkpoint, *services.router_device,
                                                          *clock, *registry, router_options));
  }
  if (options.world_size > 1) services.fabric = std::make_unique<LocalFabric>();
  for (int32_t rank = 0; rank < options.world_size; ++rank) {
    WorkerHostOptions worker = options;
    worker.rank = rank;
    ASSIGN_OR_RETURN(
        services.workers.emplace_back(),
        WorkerHost::Load(worker, /*config_digest=*/"", clock, log, services.fabric.get()));
  }
  return services;
}

}  // namespace pregate::cli

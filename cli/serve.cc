// `pregate serve`: router, workers and scheduler in one process, joined by in-process links.
#include <memory>

#include "cli/command.h"
#include "cli/local_links.h"
#include "cli/local_services.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/service.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate::cli {
namespace {

struct ServeOptions {
  WorkerOptions worker{.kv_cache_bytes = kLocalKvCacheBytes};
  SchedulerServerOptions server;
  ProgramOptions program;
};

void DeclareServe(OptionSet& set, ServeOptions* o) {
  DeclareModelOptions(set, &o->worker);
  set.Int("workers", &o->worker.world_size, 1, kWorkersMax, "workers",
          "Workers that share the experts, each with --threads and --kv-cache-bytes of its own")
      .Environment("PREGATE_SERVE_WORKERS");  // PREGATE_WORKERS are a scheduler's addresses
  DeclareSchedulerServerOptions(set, &o->server);
  DeclareProgramOptions(set, &o->program);
}

// Members end in reverse order: the server before the workers, whose steps may still answer it.
class LocalCell final : public Service {
 public:
  static absl::StatusOr<std::unique_ptr<Service>> Start(const ServeOptions& o,
                                                        const ServiceContext& context) {
    // Before the model: a mistake here must not wait for the weights.
    RETURN_IF_ERROR(CheckPortOptions(o.server.ports, *context.security));
    ASSIGN_OR_RETURN(ServedModel model, LoadServedModel(o.worker.model, o.server.ports.model_name));
    std::unique_ptr<LocalCell> cell(new LocalCell(model.name));
    WorkerOptions worker = o.worker;
    worker.step_tokens = o.server.engine.step_tokens;
    ASSIGN_OR_RETURN(cell->services_,
                     StartLocalServices(worker, context.clock, &cell->registry_, context.log));
    const auto make_links = [&](const PushEvent& push) { return cell->MakeLinks(push); };
    ASSIGN_OR_RETURN(cell->server_, SchedulerServer::Start(o.server, std::move(model), make_links,
                                                           &cell->registry_, context));
    return cell;
  }
  void Drain() override { server_->Drain(); }

 private:
  explicit LocalCell(const std::string& model_name) : registry_(model_name) {}
  absl::StatusOr<SchedulerLinks> MakeLinks(const PushEvent& push) {
    SchedulerLinks links;
    for (const LoadedWorker& worker : services_.workers) {
      const auto rank = static_cast<int32_t>(links.workers.size());
      links.workers.push_back(MakeLocalWorkerLink(rank, worker.engine.get(), push));
    }
    if (services_.router) links.router = MakeLocalRouterLink(services_.router.get(), push);
    return links;
  }

  MetricsRegistry registry_;
  LocalServices services_;
  std::unique_ptr<SchedulerServer> server_;
};

}  // namespace

int Serve(int argc, const char* const* argv) {
  ServeOptions options;
  OptionSet set("pregate serve", "Runs router, workers and scheduler in one process.");
  DeclareServe(set, &options);
  PARSE_OPTIONS_OR_RETURN(set, "serve", argc, argv);
  const absl::Status status =
      RunService("serve", Role::kScheduler, options.program, set,
                 [&](const ServiceContext& context) { return LocalCell::Start(options, context); });
  return status.ok() ? kExitOk : Fail("serve", status);
}

}  // namespace pregate::cli

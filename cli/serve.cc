// `pregate serve`: router, workers, scheduler and gateway in one process, joined by in-process links.
#include <memory>

#include "absl/strings/str_cat.h"
#include "cli/command.h"
#include "cli/local_links.h"
#include "cli/local_services.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/option_set.h"
#include "common/rpc/service.h"
#include "gateway_service/edge/gateway_server.h"
#include "scheduler_service/edge/scheduler_server.h"

namespace pregate::cli {
namespace {

struct ServeOptions {
  WorkerOptions worker{.kv_cache_bytes = kLocalKvCacheBytes};
  SchedulerServerOptions server;
  gateway::GatewayOptions gateway{.http_listen = "auto"};
  ProgramOptions program;
};

constexpr int kHttpPort = 7680;
constexpr absl::Duration kLastAnswersMax = absl::Seconds(5);  // of a scheduler that is drained

// "auto" is a port that is easy to remember beside the other ports' defaults; whoever chose another
// for --listen may run several servers here, and gets one that is free.
void ChooseHttpPort(ServeOptions* o) {
  if (o->gateway.http_listen != "auto") return;
  const bool is_default = o->server.ports.listen == SchedulerServerOptions().ports.listen;
  o->gateway.http_listen = absl::StrCat("127.0.0.1:", is_default ? kHttpPort : 0);
}

void DeclareServe(OptionSet& set, ServeOptions* o) {
  DeclareModelOptions(set, &o->worker);
  set.Int("workers", &o->worker.world_size, 1, kWorkersMax, "workers",
          "Workers that share the experts, each with --threads and --kv-cache-bytes of its own")
      .Environment("PREGATE_SERVE_WORKERS");  // PREGATE_WORKERS are a scheduler's addresses
  DeclareSchedulerServerOptions(set, &o->server);
  gateway::DeclareGatewayOptions(set, &o->gateway);
  DeclareProgramOptions(set, &o->program);
}

// Members end in reverse order: the gateway before the server, whose channel it has, and that before
// the workers, whose steps may still answer it.
class LocalCell final : public Service {
 public:
  static absl::StatusOr<std::unique_ptr<Service>> Start(ServeOptions o,
                                                        const ServiceContext& context) {
    // Before the model: a mistake here must not wait for the weights.
    RETURN_IF_ERROR(CheckPortOptions(o.server.ports, *context.security));
    ChooseHttpPort(&o);
    ListenSockets http;
    if (o.gateway.on()) {
      ASSIGN_OR_RETURN(const Address address, CheckGatewayOptions(o.gateway));
      ASSIGN_OR_RETURN(http, Listen(address));
      o.server.ports.also_bound["http"] = http.bound.ToString();
    }
    ASSIGN_OR_RETURN(ServedModel model, LoadServedModel(o.worker.model, o.server.ports.model_name));
    std::unique_ptr<LocalCell> cell(new LocalCell(model.name));
    WorkerOptions worker = o.worker;
    worker.step_tokens = o.server.engine.step_tokens;
    ASSIGN_OR_RETURN(cell->spans_, OtlpExporter::Start(o.server.otlp, "pregate-scheduler",
                                                       &cell->registry_, context.log));
    ASSIGN_OR_RETURN(cell->services_,
                     StartLocalServices(worker, context.clock, &cell->registry_, context.log,
                                        cell->spans_.get(), context.end));
    const auto make_links = [&](const PushEvent& push) { return cell->MakeLinks(push); };
    ASSIGN_OR_RETURN(cell->server_,
                     SchedulerServer::Start(o.server, std::move(model), make_links,
                                            &cell->registry_, cell->spans_.get(), context));
    if (!o.gateway.on()) return cell;
    ASSIGN_OR_RETURN(
        cell->gateway_,
        gateway::GatewayServer::Start(
            o.gateway, std::move(http),
            {{.name = "this process", .channels = {cell->server_->InProcessChannel()}}},
            &cell->registry_, context));
    return cell;
  }
  // The gateway's last answers leave before the scheduler ends the channel that they come by.
  void Drain() override {
    if (gateway_ != nullptr) gateway_->MarkDraining();
    server_->FinishRequests();
    if (gateway_ != nullptr) gateway_->DrainWithin(kLastAnswersMax);
    server_->Drain();
  }

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
  std::unique_ptr<OtlpExporter> spans_;  // null: nobody collects them
  LocalServices services_;
  std::unique_ptr<SchedulerServer> server_;
  std::unique_ptr<gateway::GatewayServer> gateway_;  // null: --http-listen off
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

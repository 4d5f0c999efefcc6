#include "expert_service/edge/worker_server.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/http/metrics_server.h"
#include "common/rpc/listen_check.h"
#include "common/rpc/port_file.h"
#include "common/rpc/rpc_server.h"
#include "common/telemetry/process_metrics.h"
#include "common/telemetry/start.h"
#include "expert_service/edge/attach_service.h"
#include "expert_service/engine/worker_metrics.h"

namespace pregate {
namespace {

constexpr absl::Duration kDrainGrace = absl::Seconds(1);  // the stream is told to end before

}  // namespace

// Members end in reverse order: servers before what their threads use.
struct WorkerServer::State {
  State(const std::string& model_name, WorkerHost* host, MeetService* meet, const Log* log,
        Clock* clock)
      : host(host),
        registry(model_name),
        faults(log, clock, "stream ended"),
        metrics(host, &registry, host->rank(), host->memory(),
                [host] { return host->residency(); }),
        service(&metrics, meet, &faults) {}

  WorkerHost* const host;
  MetricsRegistry registry;
  RefusalLog faults;
  WorkerMetrics metrics;
  AttachService service;
  std::unique_ptr<RpcServer> rpc;
  std::unique_ptr<MetricsServer> metrics_server;
  PortFile port_file;
};

void DeclareWorkerServerOptions(OptionSet& set, WorkerServerOptions* options) {
  set.Group("Addresses");
  set.String(
      "listen", &options->listen,
      "Address of ExpertWorker: host:port or unix:/path; without --tls-dir on this machine only");
  set.String("metrics-listen", &options->metrics_listen, "Address of /metrics and /healthz");
  set.String("port-file", &options->port_file, "Write the bound addresses here as JSON");
  set.String("collective-host", &options->collective_host,
             "Address of this machine that other workers dial: to meet, where --listen is a "
             "wildcard, and to exchange activations");
  set.Switch("collective-insecure", &options->collective_insecure,
             "Allow a --collective-host beyond loopback: activations travel unencrypted and "
             "unauthenticated between workers, so keep them on a private network");
  set.Group();
  set.String("model-name", &options->model_name,
             "Name of the model in metrics; empty: the last part of --model");
}

absl::Status CheckAddresses(const WorkerServerOptions& options, const Security& security) {
  RETURN_IF_ERROR(
      CheckListenOptions(security, options.listen, options.metrics_listen, options.port_file));
  return CheckCollectiveHost(options);
}

absl::Status CheckCollectiveHost(const WorkerServerOptions& options) {
  const absl::StatusOr<Address> address =
      ParseAddress(Address{.host = options.collective_host}.ToString());
  if (!address.ok() || address->is_unix() || address->is_wildcard()) {
    return absl::InvalidArgumentError(absl::StrCat("--collective-host: '", options.collective_host,
                                                   "' is no name or address to dial"));
  }
  if (address->is_loopback() || options.collective_insecure) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--collective-host: ", options.collective_host,
                   " is not on this machine, and activations travel unencrypted between workers, "
                   "also with --tls-dir: keep them on a private network and say "
                   "--collective-insecure"));
}

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const WorkerServerOptions& options, const std::string& model_path, WorkerHost* host,
    WorkerCollectives* collectives, const Security* security, Clock* clock, const Log* log) {
  ASSIGN_OR_RETURN(const Address listen, security->ParseAddress("listen", options.listen));
  ASSIGN_OR_RETURN(const Address metrics_listen,
                   security->ParseAddress("metrics-listen", options.metrics_listen));
  const auto turned_within = [host, clock](int ms) {
    return clock->Now() - host->last_progress() <= absl::Milliseconds(ms);
  };
  const auto ready = [turned_within] { return turned_within(kLoopHeartbeatMsMax); };
  auto state = std::make_unique<State>(
      options.model_name.empty() ? ModelNameOf(model_path) : options.model_name, host,
      collectives->service(), log, clock);
  AddProcessMetrics(&state->registry);
  ASSIGN_OR_RETURN(state->metrics_server,
                   MetricsServer::Start(metrics_listen, &state->registry, ready, security->gate()));
  ASSIGN_OR_RETURN(
      state->rpc,
      RpcServer::Start({.listen = listen,
                        .message_bytes_max = kServiceMessageBytesMax,
                        .security = security,
                        .service = "pregate.v1.ExpertWorker",
                        .live = [turned_within] { return turned_within(kLoopStuckMsMin); },
                        .log = log,
                        .on_unreachable = ExitWhenUnreachable(log)},
                       {&state->service}, ready));
  collectives->Open(state->rpc->bound());
  const std::string bound = state->rpc->bound().ToString();
  const std::string metrics_bound = state->metrics_server->bound().ToString();
  ASSIGN_OR_RETURN(state->port_file, PortFile::Claim(options.port_file));
  RETURN_IF_ERROR(state->port_file.Write({{"listen", bound}, {"metrics", metrics_bound}}));
  log->Info("serving", {{"listen", bound}, {"metrics", metrics_bound}});
  return std::unique_ptr<WorkerServer>(new WorkerServer(std::move(state)));
}

WorkerServer::WorkerServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
WorkerServer::~WorkerServer() { Drain(); }

void WorkerServer::Drain() {
  state_->rpc->MarkDraining();
  state_->service.Drain();
  state_->rpc->Shutdown(kDrainGrace);
  state_->host->Stop();
}

}  // namespace pregate

#include "common/rpc/service.h"

#include <mutex>
#include <utility>

#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/http/metrics_server.h"
#include "common/rpc/grpc_log.h"
#include "common/rpc/listen_check.h"
#include "common/rpc/port_file.h"
#include "common/rpc/rpc_server.h"
#include "common/rpc/shutdown.h"
#include "common/telemetry/process_metrics.h"
#include "common/telemetry/start.h"
#include "common/tls/tls_metrics.h"

namespace pregate {
namespace {

// Why a program ends before it is told to.
class EndReason {
 public:
  void Set(const absl::Status& why) {
    std::lock_guard lock(mutex_);
    why_.Update(why);
  }
  absl::Status Get() {
    std::lock_guard lock(mutex_);
    return why_;
  }

 private:
  std::mutex mutex_;
  absl::Status why_;
};

}  // namespace

void DeclareProgramOptions(OptionSet& set, ProgramOptions* options) {
  DeclareTlsOptions(set, &options->tls);
  DeclareLogOptions(set, &options->log);
}

absl::Status RunService(const std::string& name, Role role, const ProgramOptions& options,
                        const OptionSet& set, const StartService& start) {
  ShutdownSignal shutdown;
  const Log log(name, options.log);
  LogStart(log, set);
  RaiseDescriptorLimit(log);
  SystemClock clock;
  const GrpcLog grpc_log(&log, &clock);
  ASSIGN_OR_RETURN(const auto security, Security::Load(options.tls, {role}, &log, &clock));
  EndReason reason;
  const ServiceContext context{.clock = &clock,
                               .log = &log,
                               .security = security.get(),
                               .end = [&](const absl::Status& why) {
                                 reason.Set(why);
                                 shutdown.Request();
                               }};
  ASSIGN_OR_RETURN(const std::unique_ptr<Service> service, start(context));
  shutdown.BeginServing();
  shutdown.Wait();
  log.Info("draining");
  service->Drain();
  return reason.Get();
}

int ServiceMain(int argc, char** argv, const std::string& name, const std::string& description,
                Role role, const std::function<void(OptionSet& set)>& declare,
                const StartService& start) {
  PrepareProcess();
  const std::string program = "pregate-" + name;
  const auto run = [&]() -> absl::Status {
    OptionSet set(program, description);
    ProgramOptions options;
    declare(set);
    DeclareProgramOptions(set, &options);
    ASSIGN_OR_RETURN(const OptionSet::Outcome outcome, set.Parse(argc, argv));
    if (outcome == OptionSet::Outcome::kExit) return absl::OkStatus();
    return RunService(name, role, options, set, start);
  };
  return ExitCode(program, run());
}

void DeclarePortOptions(OptionSet& set, const std::string& what, PortOptions* options) {
  set.Group("Addresses");
  set.String(
      "listen", &options->listen,
      "Address of " + what + ": host:port or unix:/path; without --tls-dir on this machine only");
  set.String("metrics-listen", &options->metrics_listen, "Address of /metrics and /healthz");
  set.String("port-file", &options->port_file, "Write the bound addresses here as JSON");
  set.Group();
  set.String("model-name", &options->model_name,
             "Name of the model in requests and metrics; empty: the last part of --model");
}

absl::Status CheckPortOptions(const PortOptions& options, const Security& security) {
  return CheckListenOptions(security, options.listen, options.metrics_listen, options.port_file);
}

struct ServicePorts::State {
  std::unique_ptr<MetricsServer> metrics;
  std::unique_ptr<RpcServer> rpc;
  PortFile port_file;
};

absl::StatusOr<std::unique_ptr<ServicePorts>> ServicePorts::Open(const PortOptions& options,
                                                                 const Served& served,
                                                                 MetricsRegistry* registry,
                                                                 const ServiceContext& context) {
  const Security& security = *context.security;
  ASSIGN_OR_RETURN(const Address listen, security.ParseAddress("listen", options.listen));
  ASSIGN_OR_RETURN(const Address metrics_listen,
                   security.ParseAddress("metrics-listen", options.metrics_listen));
  const auto turned_within = [clock = context.clock, last_turn = served.last_turn](int ms) {
    return clock->Now() - last_turn() <= absl::Milliseconds(ms);
  };
  const std::function<bool()> turns = [turned_within] {
    return turned_within(kLoopHeartbeatMsMax);
  };
  const std::function<bool()> ready = served.ready ? served.ready : turns;
  auto state = std::make_unique<State>();
  AddProcessMetrics(registry);
  if (security.encrypted()) AddTlsMetrics(security.gate()->files, registry);
  ASSIGN_OR_RETURN(state->metrics,
                   MetricsServer::Start(metrics_listen, registry, ready, security.gate()));
  ASSIGN_OR_RETURN(
      state->rpc,
      RpcServer::Start({.listen = listen,
                        .message_bytes_max = served.message_bytes_max,
                        .security = &security,
                        .service = served.name,
                        .self_told = served.self_told,
                        .live = [turned_within] { return turned_within(kLoopStuckMsMin); },
                        .log = context.log,
                        .on_unreachable = ExitWhenUnreachable(context.log)},
                       {served.handler}, ready));
  std::unique_ptr<ServicePorts> ports(new ServicePorts(std::move(state)));
  const std::string bound = ports->bound().ToString(), metrics_bound = ports->metrics_bound();
  ASSIGN_OR_RETURN(ports->state_->port_file, PortFile::Claim(options.port_file));
  std::map<std::string, std::string> addresses = options.also_bound;
  addresses.insert({{"listen", bound}, {"metrics", metrics_bound}});
  RETURN_IF_ERROR(ports->state_->port_file.Write(addresses));
  context.log->Info("serving", {{"listen", bound}, {"metrics", metrics_bound}});
  return ports;
}

ServicePorts::ServicePorts(std::unique_ptr<State> state) : state_(std::move(state)) {}
ServicePorts::~ServicePorts() = default;

const Address& ServicePorts::bound() const { return state_->rpc->bound(); }
std::string ServicePorts::metrics_bound() const { return state_->metrics->bound().ToString(); }
std::shared_ptr<grpc::Channel> ServicePorts::InProcessChannel() {
  return state_->rpc->InProcessChannel();
}
void ServicePorts::HoldWrites(size_t num_messages) { state_->rpc->HoldWrites(num_messages); }
void ServicePorts::ReleaseWrites() { state_->rpc->ReleaseWrites(); }
void ServicePorts::MarkDraining() { state_->rpc->MarkDraining(); }
void ServicePorts::Shutdown(absl::Duration grace) { state_->rpc->Shutdown(grace); }

}  // namespace pregate

#include "router_service/edge/router_server.h"

#include "common/base/limits.h"
#include "common/base/memory.h"
#include "common/base/random_id.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/config/values.h"
#include "common/device/cpu/cpu_device.h"
#include "common/http/metrics_server.h"
#include "common/rpc/listen_check.h"
#include "common/rpc/port_file.h"
#include "common/rpc/rpc_server.h"
#include "common/telemetry/process_metrics.h"
#include "common/telemetry/start.h"
#include "router_service/edge/route_service.h"

namespace pregate {
namespace {

constexpr int kThreadsMax = 256;
constexpr int kSessionsMax = 1 << 20;
constexpr int64_t kKvCacheBytesMin = int64_t{1} << 16;
constexpr int64_t kKvCacheBytesMax = int64_t{1} << 43;
constexpr absl::Duration kDrainAnswersMax = absl::Seconds(5);
constexpr absl::Duration kDrainGrace = absl::Seconds(1);  // the streams are told to end before

// Memory of the host is given whether it is there or not, and taken back by killing the process.
absl::Status CheckFits(int64_t kv_cache_bytes) {
  const std::optional<int64_t> available = AvailableMemoryBytes();
  if (!available || kv_cache_bytes <= *available) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("--kv-cache-bytes ", FormatBytes(kv_cache_bytes),
                                                   ": only ", *available >> 20,
                                                   " MiB are available"));
}

void LogLoaded(const RouterEngine& engine, const Device& device, const Log* log) {
  const RouterLimits& limits = engine.limits();
  log->Info("memory plan", {{"model_bytes", engine.model_bytes()},
                            {"kv_bytes", engine.kv_bytes()},
                            {"kv_blocks", limits.kv_blocks},
                            {"context_tokens", limits.context_tokens_max}});
  log->Info("router loaded", {{"router_digest", engine.hello().router_digest},
                              {"numerics_id", device.numerics_id(kF32Types)},
                              {"experts", engine.hello().num_experts},
                              {"boot_id", engine.hello().boot_id}});
}

}  // namespace

// Members end in reverse order: servers before what their threads use.
struct RouterServer::State {
  State(const std::string& model_name, Clock* clock, const Log* log)
      : clock(clock), registry(model_name), faults(log, clock, "stream ended") {}

  absl::Status Load(const RouterServerOptions& options, const Log* log);
  absl::Status Serve(const Address& listen, const Address& metrics_listen,
                     const std::string& port_path, const Security& security, const Log* log);

  Clock* const clock;
  MetricsRegistry registry;
  RefusalLog faults;
  std::unique_ptr<Device> device;
  std::unique_ptr<RouterEngine> engine;
  std::unique_ptr<RouteService> service;
  std::unique_ptr<MetricsServer> metrics_server;
  std::unique_ptr<RpcServer> rpc;
  PortFile port_file;
};

void DeclareRouterServerOptions(OptionSet& set, RouterServerOptions* options) {
  RouterEngineOptions& engine = options->engine;
  set.String("model", &options->model, "Checkpoint directory with a router").Required();
  set.Group("Addresses");
  set.String("listen", &options->listen,
             "Address of Router: host:port or unix:/path; without --tls-dir on this machine only");
  set.String("metrics-listen", &options->metrics_listen, "Address of /metrics and /healthz");
  set.String("port-file", &options->port_file, "Write the bound addresses here as JSON");
  set.Group();
  set.String("model-name", &options->model_name,
             "Name of the model in metrics; empty: the last part of --model");
  set.Int("threads", &options->threads, 0, kThreadsMax, "threads",
          "Compute threads; 0: one a hardware thread");
  set.Int("context-tokens", &engine.context_tokens_max, 0, kContextTokensMax, "tokens",
          "Longest session; 0: the model's");
  set.Int("step-tokens", &engine.step_tokens_max, 1, kStepTokensMax, "tokens",
          "Most tokens in one pass of the network; sizes the buffers");
  set.Int("sessions-max", &engine.sessions_max, 1, kSessionsMax, "sessions",
          "Sessions kept; the longest unused goes first");
  set.Duration("session-idle-s", &engine.session_idle_max, absl::Seconds(1), absl::Hours(24),
               "A session unused for so long is forgotten");
  set.Bytes("kv-cache-bytes", &engine.kv_cache_bytes, kKvCacheBytesMin, kKvCacheBytesMax,
            "Memory for the sessions' keys and values");
}

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(
    const RouterServerOptions& options, const Security* security, Clock* clock, const Log* log) {
  // Before the model: a mistake here must not wait for the weights.
  RETURN_IF_ERROR(
      CheckListenOptions(*security, options.listen, options.metrics_listen, options.port_file));
  ASSIGN_OR_RETURN(const Address listen, security->ParseAddress("listen", options.listen));
  ASSIGN_OR_RETURN(const Address metrics_listen,
                   security->ParseAddress("metrics-listen", options.metrics_listen));
  auto state = std::make_unique<State>(
      options.model_name.empty() ? ModelNameOf(options.model) : options.model_name, clock, log);
  RETURN_IF_ERROR(state->Load(options, log));
  RETURN_IF_ERROR(state->Serve(listen, metrics_listen, options.port_file, *security, log));
  return std::unique_ptr<RouterServer>(new RouterServer(std::move(state)));
}

absl::Status RouterServer::State::Load(const RouterServerOptions& options, const Log* log) {
  RETURN_IF_ERROR(CheckFits(options.engine.kv_cache_bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(options.model));
  device = MakeCpuDevice({.threads = options.threads});
  RouterEngineOptions engine_options = options.engine;
  engine_options.boot_id = RandomId();
  ASSIGN_OR_RETURN(engine,
                   RouterEngine::Start(*checkpoint, *device, *clock, registry, engine_options));
  LogLoaded(*engine, *device, log);
  return absl::OkStatus();
}

absl::Status RouterServer::State::Serve(const Address& listen, const Address& metrics_listen,
                                        const std::string& port_path, const Security& security,
                                        const Log* log) {
  const auto turned_within = [this](int ms) {
    return clock->Now() - engine->heartbeat() <= absl::Milliseconds(ms);
  };
  const auto ready = [turned_within] { return turned_within(kLoopHeartbeatMsMax); };
  service = std::make_unique<RouteService>(engine.get(), kRouterStreamsMax, &faults);
  AddProcessMetrics(&registry);
  ASSIGN_OR_RETURN(metrics_server,
                   MetricsServer::Start(metrics_listen, &registry, ready, security.gate()));
  ASSIGN_OR_RETURN(
      rpc, RpcServer::Start({.listen = listen,
                             .message_bytes_max = kRouteMessageBytesMax,
                             .security = &security,
                             .service = "pregate.v1.Router",
                             .live = [turned_within] { return turned_within(kLoopStuckMsMin); },
                             .log = log,
                             .on_unreachable = ExitWhenUnreachable(log)},
                            {service.get()}, ready));
  const std::string bound = rpc->bound().ToString();
  const std::string metrics_bound = metrics_server->bound().ToString();
  ASSIGN_OR_RETURN(port_file, PortFile::Claim(port_path));
  RETURN_IF_ERROR(port_file.Write({{"listen", bound}, {"metrics", metrics_bound}}));
  log->Info("serving", {{"listen", bound}, {"metrics", metrics_bound}});
  return absl::OkStatus();
}

RouterServer::RouterServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
RouterServer::~RouterServer() { Drain(); }

std::string RouterServer::bound() const { return state_->rpc->bound().ToString(); }
std::string RouterServer::metrics_bound() const {
  return state_->metrics_server->bound().ToString();
}

void RouterServer::Drain() {
  state_->rpc->MarkDraining();
  state_->engine->Stop(state_->clock->Now() + kDrainAnswersMax);
  state_->service->Drain();
  state_->rpc->Shutdown(kDrainGrace);
}

}  // namespace pregate

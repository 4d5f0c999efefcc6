#include "router_service/edge/router_server.h"

#include <optional>

#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/status.h"
#include "common/config/values.h"
#include "common/device/any/any_device.h"
#include "common/telemetry/start.h"
#include "router_service/edge/route_service.h"
#include "router_service/engine/router_metrics.h"

namespace pregate {
namespace {

constexpr int kSessionsMax = 1 << 20;
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

void LogLoaded(const RouterEngine& engine, const Device& device, RouterObserver* observer) {
  const RouterLimits& limits = engine.limits();
  observer->OnLog(LogLevel::kInfo, "memory plan",
                  {{"model_bytes", engine.model_bytes()},
                   {"kv_bytes", engine.kv_bytes()},
                   {"kv_blocks", limits.kv_blocks},
                   {"context_tokens", limits.context_tokens_max}});
  observer->OnLog(LogLevel::kInfo, "router loaded",
                  {{"router_digest", engine.hello().router_digest},
                   {"numerics_id", device.numerics_id(kF32Types)},
                   {"experts", engine.hello().num_experts},
                   {"boot_id", engine.hello().boot_id}});
}

}  // namespace

// Members end in reverse order: servers before what their threads use.
struct RouterServer::State {
  State(const RouterServerOptions& options, const ServiceContext& context)
      : clock(context.clock),
        registry(ModelName(options.ports.model_name, options.model)),
        faults(context.log, context.clock, "stream ended") {}

  Clock* const clock;
  MetricsRegistry registry;
  std::unique_ptr<OtlpExporter> spans;  // null: nobody collects them
  std::optional<RouterMetrics> metrics;
  RefusalLog faults;
  std::unique_ptr<Device> device;
  std::unique_ptr<RouterEngine> engine;
  std::unique_ptr<RouteService> service;
  std::unique_ptr<ServicePorts> ports;
};

void DeclareRouterServerOptions(OptionSet& set, RouterServerOptions* options) {
  RouterEngineOptions& engine = options->engine;
  set.String("model", &options->model, "Checkpoint directory with a router").Required();
  DeclarePortOptions(set, "Router", &options->ports);
  set.Choice("device", &options->device, {"cpu", "cuda"},
             "What computes: this machine's CPU or a card, which should be the router's own");
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
  DeclareOtlpOptions(set, &options->otlp);
}

absl::StatusOr<std::unique_ptr<RouterServer>> RouterServer::Start(
    const RouterServerOptions& options, const ServiceContext& context) {
  // Before the model: a mistake here must not wait for the weights.
  RETURN_IF_ERROR(CheckPortOptions(options.ports, *context.security));
  if (options.device == "cpu") RETURN_IF_ERROR(CheckFits(options.engine.kv_cache_bytes));
  ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(options.model));
  auto state = std::make_unique<State>(options, context);
  ASSIGN_OR_RETURN(state->spans, OtlpExporter::Start(options.otlp, "pregate-router",
                                                     &state->registry, context.log));
  state->metrics.emplace(&state->registry, context.log, options.engine.step_tokens_max,
                         state->spans.get());
  ASSIGN_OR_RETURN(state->device, MakeDevice(options.device, options.threads));
  RouterEngineOptions engine_options = options.engine;
  engine_options.boot_id = RandomId();
  ASSIGN_OR_RETURN(state->engine, RouterEngine::Start(*checkpoint, *state->device, *context.clock,
                                                      *state->metrics, engine_options));
  LogLoaded(*state->engine, *state->device, &*state->metrics);
  state->service =
      std::make_unique<RouteService>(state->engine.get(), kRouterStreamsMax, &state->faults);
  ASSIGN_OR_RETURN(
      state->ports,
      ServicePorts::Open(
          options.ports,
          {.name = "pregate.v1.Router",
           .handler = state->service.get(),
           .message_bytes_max = kRouteMessageBytesMax,
           .self_told = state->service->self_told(),
           .last_turn = [engine = state->engine.get()] { return engine->heartbeat(); }},
          &state->registry, context));
  return std::unique_ptr<RouterServer>(new RouterServer(std::move(state)));
}

RouterServer::RouterServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
RouterServer::~RouterServer() { Drain(); }

std::string RouterServer::bound() const { return state_->ports->bound().ToString(); }
std::string RouterServer::metrics_bound() const { return state_->ports->metrics_bound(); }

void RouterServer::Drain() {
  state_->ports->MarkDraining();
  state_->engine->Stop(state_->clock->Now() + kDrainAnswersMax);
  state_->service->Drain();
  state_->ports->Shutdown(kDrainGrace);
}

}  // namespace pregate

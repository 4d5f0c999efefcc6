#include "scheduler_service/edge/scheduler_server.h"

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/random_id.h"
#include "common/base/status.h"
#include "common/config/address.h"
#include "common/http/metrics_server.h"
#include "common/rpc/port_file.h"
#include "common/rpc/rpc_server.h"
#include "common/telemetry/process_metrics.h"
#include "common/telemetry/start.h"
#include "scheduler_service/edge/inference_service.h"
#include "scheduler_service/edge/request_log.h"
#include "scheduler_service/edge/scheduler_metrics.h"
#include "scheduler_service/engine/mailbox_inbox.h"
#include "scheduler_service/engine/scheduler_engine.h"

namespace pregate {
namespace {

constexpr absl::Duration kLastWritesGrace = absl::Seconds(5);  // answers still on their way
constexpr absl::Duration kPushRetry = absl::Milliseconds(10);

}  // namespace

// Members end in reverse order: servers and links before the engine and inbox that they use.
struct SchedulerServer::State {
  State(ServedModel served, MetricsRegistry* registry, Clock* clock, const Log* log)
      : model(std::move(served)),
        clock(clock),
        inbox(kEngineInboxMessages, clock),
        random(RandomId()),
        metrics(registry, log, model.spec.num_experts),
        requests(log, clock),
        service(&model, &metrics, &requests, push()) {}

  Push push() {
    return [this](EngineEvent event) { return inbox.Push(std::move(event)); };
  }
  EngineParts parts() {
    EngineParts parts;
    parts.clock = clock;
    parts.inbox = &inbox;
    parts.router = links.router.get();
    for (const auto& worker : links.workers) parts.workers.push_back(worker.get());
    parts.tokenizer = model.tokenizer.get();
    parts.random = &random;
    parts.observer = &metrics;
    return parts;
  }
  // The loop turns; workers and router may be gone.
  bool live() const {
    return clock->Now() - engine->health().loop_progress() <= absl::Milliseconds(kLoopStuckMsMin);
  }
  bool ready() const {
    return engine->health().Ready(clock->Now(), absl::Milliseconds(kLoopHeartbeatMsMax));
  }

  const ServedModel model;
  Clock* const clock;
  MailboxInbox inbox;
  scheduler::SplitMix64 random;
  SchedulerMetrics metrics;
  RequestLog requests;
  InferenceService service;
  std::unique_ptr<SchedulerEngine> engine;
  SchedulerLinks links;
  std::thread loop;
  std::unique_ptr<RpcServer> rpc;
  std::unique_ptr<MetricsServer> metrics_server;
  std::string bound, metrics_bound;
  PortFile port_file;
  std::atomic<bool> drained{false};
};

absl::StatusOr<std::unique_ptr<SchedulerServer>> SchedulerServer::Start(
    const SchedulerServerOptions& options, ServedModel model, const MakeLinks& make_links,
    MetricsRegistry* registry, const Security* security, Clock* clock, const Log* log) {
  ASSIGN_OR_RETURN(const Address listen, security->ParseAddress("listen", options.listen));
  ASSIGN_OR_RETURN(const Address metrics_listen,
                   security->ParseAddress("metrics-listen", options.metrics_listen));
  // Owned by the server from here on: its destructor drains what has been started.
  std::unique_ptr<SchedulerServer> server(
      new SchedulerServer(std::make_unique<State>(std::move(model), registry, clock, log)));
  State& state = *server->state_;
  ASSIGN_OR_RETURN(state.links, make_links(state.push()));
  state.engine = std::make_unique<SchedulerEngine>(
      ToEngineOptions(options, absl::StrCat(absl::Hex(RandomId())), state.model.digest),
      state.parts());
  state.loop = std::thread([&state] { state.engine->Run(); });
  const auto ready = [&state] { return state.ready(); };
  AddProcessMetrics(registry);
  ASSIGN_OR_RETURN(state.metrics_server,
                   MetricsServer::Start(metrics_listen, registry, ready, security->gate()));
  ASSIGN_OR_RETURN(state.rpc, RpcServer::Start({.listen = listen,
                                                .message_bytes_max = kClientMessageBytesMax,
                                                .security = security,
                                                .service = "pregate.v1.Inference",
                                                .live = [&state] { return state.live(); },
                                                .log = log,
                                                .on_unreachable = ExitWhenUnreachable(log)},
                                               {&state.service}, ready));
  state.bound = state.rpc->bound().ToString();
  state.metrics_bound = state.metrics_server->bound().ToString();
  ASSIGN_OR_RETURN(state.port_file, PortFile::Claim(options.port_file));
  RETURN_IF_ERROR(
      state.port_file.Write({{"listen", state.bound}, {"metrics", state.metrics_bound}}));
  log->Info("serving", {{"listen", state.bound},
                        {"metrics", state.metrics_bound},
                        {"model", state.model.name},
                        {"model_digest", state.model.digest}});
  return server;
}

SchedulerServer::SchedulerServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
SchedulerServer::~SchedulerServer() { Drain(); }

const std::string& SchedulerServer::bound() const { return state_->bound; }
const std::string& SchedulerServer::metrics_bound() const { return state_->metrics_bound; }

void SchedulerServer::Drain() {
  if (state_->drained.exchange(true)) return;
  if (state_->rpc != nullptr) state_->rpc->MarkDraining();
  if (state_->loop.joinable()) {
    while (!state_->inbox.Push(DrainEvent{})) absl::SleepFor(kPushRetry);
    state_->loop.join();
  }
  if (state_->rpc != nullptr) state_->rpc->Shutdown(kLastWritesGrace);
}

}  // namespace pregate

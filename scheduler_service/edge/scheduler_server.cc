#include "scheduler_service/edge/scheduler_server.h"

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/process.h"
#include "common/base/scheduling.h"
#include "common/base/status.h"
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
  // Messages of a step that leave by one connection leave together.
  struct HeldWrites final : AnswerBatch {
    void Begin(size_t num_answers) override {
      if (ServicePorts* const to = ports) to->HoldWrites(num_answers);
    }
    void End() override {
      // gRPC's threads find that these messages are written, and write those that had to wait for
      // others of their streams, while all is held: else each of those would leave by itself.
      LetWaitingRun();
      if (ServicePorts* const to = ports) to->ReleaseWrites();
    }
    std::atomic<ServicePorts*> ports{nullptr};  // null: not open yet
  };

  State(ServedModel served, MetricsRegistry* registry, Clock* clock, const Log* log,
        SpanSink* spans)
      : model(std::move(served)),
        clock(clock),
        inbox(kEngineInboxMessages, clock),
        random(RandomId()),
        metrics(registry, log, model.spec.num_experts),
        requests(log, clock, spans),
        clients(push()),
        service(&model, &metrics, &requests, &clients, [this] { return engine->board().Read(); }) {}

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
    parts.answers = &held_writes;
    return parts;
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
  SchedulerPeer clients;
  InferenceService service;
  std::unique_ptr<SchedulerEngine> engine;
  SchedulerLinks links;
  HeldWrites held_writes;
  std::thread loop;
  std::unique_ptr<ServicePorts> ports;
  std::atomic<bool> drained{false};
};

absl::StatusOr<std::unique_ptr<SchedulerServer>> SchedulerServer::Start(
    const SchedulerServerOptions& options, ServedModel model, const MakeLinks& make_links,
    MetricsRegistry* registry, SpanSink* spans, const ServiceContext& context) {
  // Owned by the server from here on: its destructor drains what has been started.
  std::unique_ptr<SchedulerServer> server(new SchedulerServer(
      std::make_unique<State>(std::move(model), registry, context.clock, context.log, spans)));
  State& state = *server->state_;
  ASSIGN_OR_RETURN(state.links, make_links(state.push()));
  state.engine = std::make_unique<SchedulerEngine>(
      FinishEngineOptions(options, absl::StrCat(absl::Hex(RandomId())), state.model.digest),
      state.parts());
  context.log->Info("model", {{"name", state.model.name}, {"model_digest", state.model.digest}});
  state.loop = std::thread([&state] { state.engine->Run(); });
  ASSIGN_OR_RETURN(
      state.ports,
      ServicePorts::Open(options.ports,
                         {.name = "pregate.v1.Inference",
                          .handler = &state.service,
                          .message_bytes_max = kClientMessageBytesMax,
                          .self_told = state.service.self_told(),
                          .last_turn = [&state] { return state.engine->health().loop_progress(); },
                          .ready = [&state] { return state.ready(); }},
                         registry, context));
  state.held_writes.ports = state.ports.get();
  return server;
}

SchedulerServer::SchedulerServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
SchedulerServer::~SchedulerServer() { Drain(); }

std::string SchedulerServer::bound() const { return state_->ports->bound().ToString(); }
std::string SchedulerServer::metrics_bound() const { return state_->ports->metrics_bound(); }

std::shared_ptr<grpc::Channel> SchedulerServer::InProcessChannel() {
  return state_->ports->InProcessChannel();
}

void SchedulerServer::FinishRequests() {
  if (state_->drained.exchange(true)) return;
  if (state_->ports != nullptr) state_->ports->MarkDraining();
  if (!state_->loop.joinable()) return;
  while (!state_->inbox.Push(DrainEvent{})) absl::SleepFor(kPushRetry);
  state_->loop.join();
}

void SchedulerServer::Drain() {
  FinishRequests();
  if (state_->ports != nullptr) state_->ports->Shutdown(kLastWritesGrace);
}

}  // namespace pregate

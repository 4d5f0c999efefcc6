#include "router_service/engine/router_engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

// How long the loop sleeps when nothing comes, so that its heartbeat stays fresh.
constexpr absl::Duration kIdleWaitMax = absl::Milliseconds(100);

RouterLimits MakeLimits(const ModelSpec& spec, const RouterNet& net,
                        const RouterEngineOptions& options) {
  const int64_t kv_blocks = options.kv_cache_bytes / static_cast<int64_t>(net.KvBytes(1));
  return {.vocab_size = spec.vocab_size,
          .context_tokens_max =
              options.context_tokens_max > 0 ? options.context_tokens_max : spec.max_position,
          .sessions_max = options.sessions_max,
          .kv_blocks = static_cast<int>(std::min<int64_t>(kv_blocks, 1 << 24)),
          .step_tokens_max = options.step_tokens_max,
          .requests_max = options.requests_max,
          .session_idle_max = options.session_idle_max};
}

}  // namespace

absl::StatusOr<std::unique_ptr<RouterEngine>> RouterEngine::Start(
    const Checkpoint& checkpoint, Device& device, Clock& clock, MetricsRegistry& registry,
    const RouterEngineOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<RouterNet> net,
                   RouterNet::Load(checkpoint, device, options.step_tokens_max));
  const RouterLimits limits = MakeLimits(checkpoint.spec(), *net, options);
  RETURN_IF_ERROR(ValidateLimits(limits));
  ASSIGN_OR_RETURN(std::unique_ptr<RouterExecutor> executor,
                   RouterExecutor::Create(std::move(net), device,
                                          {.context_tokens_max = limits.context_tokens_max,
                                           .kv_blocks = limits.kv_blocks}));
  std::unique_ptr<RouterEngine> engine(
      new RouterEngine(clock, registry, limits, options.boot_id, std::move(executor)));
  engine->thread_ = std::thread([e = engine.get()] { e->Loop(); });
  return engine;
}

RouterEngine::RouterEngine(Clock& clock, MetricsRegistry& registry, const RouterLimits& limits,
                           uint64_t boot_id, std::unique_ptr<RouterExecutor> executor)
    : clock_(clock),
      limits_(limits),
      executor_(std::move(executor)),
      hello_{.boot_id = boot_id,
             .router_digest = executor_->net().digest(),
             .num_experts = executor_->net().num_experts(),
             .vocab_size = limits.vocab_size,
             .answers_pings = true},
      mailbox_(limits.requests_max),
      queue_(limits),
      metrics_(registry, limits.step_tokens_max) {
  Beat();
}

RouterEngine::~RouterEngine() { Stop(absl::InfinitePast()); }

ConnectionId RouterEngine::Connect(RouterSink sink) {
  sink(hello_);
  std::lock_guard lock(mutex_);
  const ConnectionId connection = ++last_connection_;
  sinks_.emplace(connection, std::move(sink));
  metrics_.connections.Set(static_cast<double>(sinks_.size()));
  return connection;
}

void RouterEngine::Disconnect(ConnectionId connection) {
  std::lock_guard lock(mutex_);
  if (sinks_.erase(connection) > 0) disconnected_.push_back(connection);
  metrics_.connections.Set(static_cast<double>(sinks_.size()));
}

bool RouterEngine::Submit(ConnectionId connection, ToRouter message) {
  return mailbox_.Push({connection, std::move(message)});
}

void RouterEngine::Stop(absl::Time deadline) {
  {
    std::lock_guard lock(mutex_);
    stop_deadline_ = deadline;
  }
  mailbox_.Close();
  if (thread_.joinable()) thread_.join();
}

absl::Time RouterEngine::heartbeat() const { return absl::FromUnixNanos(heartbeat_ns_.load()); }

void RouterEngine::Beat() { heartbeat_ns_.store(absl::ToUnixNanos(clock_.Now())); }

void RouterEngine::Loop() {
  bool closed = false;
  while (!closed || HasTimeForMore()) {
    closed = mailbox_.closed();  // asked before Wait, which then returns the last of the messages
    std::vector<Inbound> inbox = mailbox_.Wait(WaitMax());
    ForgetDisconnected();
    for (Inbound& inbound : inbox) Take(std::move(inbound));
    queue_.ExpireIdle(clock_.Now());
    RunStep();
    ReportSessions();
    Beat();
  }
}

bool RouterEngine::HasTimeForMore() {
  std::lock_guard lock(mutex_);
  return queue_.HasWork() && clock_.Now() < stop_deadline_;
}

absl::Duration RouterEngine::WaitMax() {
  if (queue_.HasWork()) return absl::ZeroDuration();
  const absl::Duration until_expiry = queue_.NextExpiry() - clock_.Now();
  return std::clamp(until_expiry, absl::ZeroDuration(), kIdleWaitMax);
}

void RouterEngine::ForgetDisconnected() {
  std::vector<ConnectionId> connections;
  {
    std::lock_guard lock(mutex_);
    connections.swap(disconnected_);
  }
  for (ConnectionId connection : connections) queue_.CloseConnection(connection);
}

bool RouterEngine::IsConnected(ConnectionId connection) {
  std::lock_guard lock(mutex_);
  return sinks_.contains(connection);
}

void RouterEngine::Take(Inbound inbound) {
  if (!IsConnected(inbound.connection)) return;  // what a dead connection left in the mailbox
  if (const auto* close = std::get_if<CloseSession>(&inbound.message)) {
    queue_.Close(inbound.connection, close->session);
    return;
  }
  if (std::holds_alternative<RouterPing>(inbound.message)) {
    return Deliver(inbound.connection, RouterPong{});
  }
  std::optional<RouteResponse> error = queue_.Submit(
      inbound.connection, std::get<RouteRequest>(std::move(inbound.message)), clock_.Now());
  if (!error.has_value()) return;
  metrics_.errors_total.Increment();
  Deliver(inbound.connection, *std::move(error));
}

void RouterEngine::RunStep() {
  const RouteStep step = queue_.Plan();
  Answer(step.answers);
  metrics_.gaps_total.Increment(static_cast<double>(step.answers.size()));
  if (step.rows.empty()) return;
  const absl::Time start = clock_.Now();
  const absl::Status status = executor_->Run(step, &routes_, nullptr);
  // A device that fails stays broken. The router holds nothing that its clients cannot replay:
  // start afresh.
  PREGATE_CHECK(status.ok(), "router device: ", status.ToString());
  const absl::Time end = clock_.Now();
  metrics_.step_seconds.Observe(absl::ToDoubleSeconds(end - start));
  metrics_.step_tokens.Observe(step.num_tokens);
  metrics_.tokens_total.Increment(step.num_tokens);
  Answer(queue_.Commit(step, routes_, end));
}

void RouterEngine::Answer(const std::vector<RouteAnswer>& answers) {
  const absl::Time now = clock_.Now();
  for (const RouteAnswer& answer : answers) {
    metrics_.route_seconds.Observe(absl::ToDoubleSeconds(now - answer.submitted));
    Deliver(answer.connection, answer.response);
  }
}

void RouterEngine::Deliver(ConnectionId connection, FromRouter message) {
  std::lock_guard lock(mutex_);
  const auto it = sinks_.find(connection);
  if (it != sinks_.end()) it->second(std::move(message));
}

void RouterEngine::ReportSessions() {
  const SessionTable& sessions = queue_.sessions();
  metrics_.requests.Set(queue_.num_requests());
  metrics_.sessions.Set(sessions.num_sessions());
  metrics_.session_tokens.Set(static_cast<double>(sessions.num_tokens()));
  metrics_.kv_usage_ratio.Set(1.0 -
                              static_cast<double>(sessions.num_free_blocks()) / limits_.kv_blocks);
  metrics_.evictions_total.Increment(static_cast<double>(sessions.num_evictions()) -
                                     metrics_.evictions_total.Value());
  metrics_.expirations_total.Increment(static_cast<double>(sessions.num_expirations()) -
                                       metrics_.expirations_total.Value());
}

}  // namespace pregate

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
    const Checkpoint& checkpoint, Device& device, Clock& clock, RouterObserver& observer,
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
      new RouterEngine(clock, observer, limits, options.boot_id, std::move(executor)));
  engine->thread_ = std::thread([e = engine.get()] { e->Run(); });
  return engine;
}

RouterEngine::RouterEngine(Clock& clock, RouterObserver& observer, const RouterLimits& limits,
                           uint64_t boot_id, std::unique_ptr<RouterExecutor> executor)
    : clock_(clock),
      observer_(observer),
      limits_(limits),
      executor_(std::move(executor)),
      hello_{.boot_id = boot_id,
             .router_digest = executor_->net().digest(),
             .num_experts = executor_->net().num_experts(),
             .vocab_size = limits.vocab_size,
             .answers_pings = true},
      mailbox_(limits.requests_max),
      queue_(limits) {
  Beat();
}

RouterEngine::~RouterEngine() { Stop(absl::InfinitePast()); }

LinkId RouterEngine::Attach(Send send) {
  send(hello_);
  std::lock_guard lock(mutex_);
  const LinkId link = ++last_link_;
  links_.emplace(link, std::move(send));
  observer_.OnLinks(static_cast<int32_t>(links_.size()));
  return link;
}

void RouterEngine::Detach(LinkId link) {
  std::lock_guard lock(mutex_);
  if (links_.erase(link) > 0) detached_.push_back(link);
  observer_.OnLinks(static_cast<int32_t>(links_.size()));
}

bool RouterEngine::Submit(LinkId link, ToRouter message) {
  return mailbox_.Push({link, std::move(message)});
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

void RouterEngine::Run() {
  bool closed = false;
  while (!closed || HasTimeForMore()) {
    closed = mailbox_.closed();  // asked before Wait, which then returns the last of the messages
    std::vector<Inbound> inbox = mailbox_.Wait(WaitMax());
    ForgetDetached();
    for (Inbound& inbound : inbox) Handle(std::move(inbound));
    queue_.ExpireIdle(clock_.Now());
    RunStep();
    Publish();
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

void RouterEngine::ForgetDetached() {
  std::vector<LinkId> links;
  {
    std::lock_guard lock(mutex_);
    links.swap(detached_);
  }
  for (LinkId link : links) queue_.CloseLink(link);
}

bool RouterEngine::IsAttached(LinkId link) {
  std::lock_guard lock(mutex_);
  return links_.contains(link);
}

void RouterEngine::Handle(Inbound inbound) {
  if (!IsAttached(inbound.link)) return;  // what a dead link left in the mailbox
  if (const auto* close = std::get_if<CloseSession>(&inbound.message)) {
    queue_.Close(inbound.link, close->seq_id);
    return;
  }
  if (std::holds_alternative<RouterPing>(inbound.message)) {
    return Deliver(inbound.link, RouterPong{});
  }
  std::optional<RouteResponse> error =
      queue_.Submit(inbound.link, std::get<RouteRequest>(std::move(inbound.message)), clock_.Now());
  if (!error.has_value()) return;
  observer_.OnError();
  Deliver(inbound.link, *std::move(error));
}

void RouterEngine::RunStep() {
  const RouteStep step = queue_.Plan();
  Answer(step.answers);  // gaps
  for (size_t i = 0; i < step.answers.size(); ++i) observer_.OnGap();
  if (step.rows.empty()) return;
  const absl::Time start = clock_.Now();
  const absl::Status status = executor_->Run(step, &routes_, nullptr);
  // A device that fails stays broken. The router holds nothing that its clients cannot replay:
  // start afresh.
  PREGATE_CHECK(status.ok(), "router device: ", status.ToString());
  const absl::Time end = clock_.Now();
  observer_.OnStep(end - start, step.num_tokens);
  Answer(queue_.Commit(step, routes_, end));
}

void RouterEngine::Answer(const std::vector<RouteAnswer>& answers) {
  const absl::Time now = clock_.Now();
  for (const RouteAnswer& answer : answers) {
    observer_.OnAnswer(now - answer.submitted);
    if (!answer.traceparent.empty()) {
      observer_.OnTraced({.traceparent = answer.traceparent,
                          .seq_id = answer.response.seq_id,
                          .tokens = static_cast<int64_t>(answer.response.routes.size()),
                          .start = answer.submitted,
                          .end = now});
    }
    Deliver(answer.link, answer.response);
  }
}

void RouterEngine::Deliver(LinkId link, FromRouter message) {
  std::lock_guard lock(mutex_);
  const auto it = links_.find(link);
  if (it != links_.end()) it->second(std::move(message));
}

void RouterEngine::Publish() {
  const SessionTable& sessions = queue_.sessions();
  RouterGauges gauges;
  gauges.requests = queue_.num_requests();
  gauges.sessions = sessions.num_sessions();
  gauges.session_tokens = sessions.num_tokens();
  gauges.kv_usage_ratio = 1.0 - static_cast<double>(sessions.num_free_blocks()) / limits_.kv_blocks;
  gauges.evictions = sessions.num_evictions();
  gauges.expirations = sessions.num_expirations();
  if (!(gauges == gauges_)) observer_.OnGauges(gauges);
  gauges_ = gauges;
}

}  // namespace pregate

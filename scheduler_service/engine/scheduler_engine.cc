#include "scheduler_service/engine/scheduler_engine.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"

namespace pregate {

using scheduler::CommittedStep;
using scheduler::LiveRequest;
using scheduler::Sequence;

namespace {

std::unique_ptr<const scheduler::Planner> MakePlanner(const EngineOptions& options) {
  if (options.batching == Batching::kFcfs) return std::make_unique<scheduler::FcfsPlanner>();
  return std::make_unique<scheduler::ByExpertPlanner>(options.by_expert);
}

}  // namespace

SchedulerEngine::SchedulerEngine(EngineOptions options, EngineParts parts)
    : options_(std::move(options)),
      parts_(std::move(parts)),
      own_planner_(MakePlanner(options_)),
      planner_(parts_.planner ? parts_.planner : own_planner_.get()),
      desk_(parts_.tokenizer, parts_.random, parts_.observer),
      routes_(parts_.router, options_.route_resend, options_.step_tokens),
      group_(options_, parts_.workers, parts_.observer),
      residency_(options_.eviction) {}

void SchedulerEngine::Run() {
  now_ = parts_.clock->Now();
  while (!Drained()) {
    std::vector<EngineEvent> events = parts_.inbox->Wait(NextWake());
    now_ = parts_.clock->Now();
    for (EngineEvent& event : events) std::visit([&](auto& e) { Handle(e); }, event);
    HandleTimers();
    PlanAndSend();
    Publish();
  }
}

absl::Time SchedulerEngine::NextWake() const {
  return std::min(
      {now_ + options_.heartbeat, desk_.table().NextDeadline(), group_.NextForm(), drain_until_});
}

void SchedulerEngine::HandleTimers() {
  for (SeqId id : desk_.table().Expired(now_)) {
    End(desk_.table().Find(id), absl::DeadlineExceededError("the deadline has passed"),
        FinishReason::kDeadline);
  }
  for (SeqId id : routes_.OnTick(now_)) {
    End(desk_.table().Find(id), absl::UnavailableError("the router gives no routes"));
  }
  if (now_ >= drain_until_) EndAll(absl::UnavailableError("the scheduler is shutting down"));
  if (!ledger_.empty()) {
    const scheduler::SentStep& oldest = ledger_.steps().front();
    RecoverIf(group_.OnTick(oldest.awaiting, oldest.sent_at, now_));
  } else {
    RecoverIf(group_.OnTick({}, now_, now_));
  }
  // Who resumes finds the scheduler that has the workers.
  if (!group_.held().empty()) EndAll(absl::UnavailableError(group_.held()));
  group_.FormIfDue(now_);
  group_.RenewIfDue(now_);
}

void SchedulerEngine::EndAll(const absl::Status& status) {
  for (SeqId id : desk_.table().Ids()) End(desk_.table().Find(id), status);
}

void SchedulerEngine::PlanAndSend() {
  while (begun_ && ledger_.size() < PipelineDepth()) {
    scheduler::PlannerView base;
    base.step_id = next_step_;
    base.step_tokens = StepTokens();
    base.preemptions_max = options_.preemptions_max;
    base.late_rows = !ledger_.empty();
    residency_.Fill(&base);
    const scheduler::PlannerView view = batch_.View(base);
    scheduler::Proposal proposal = planner_->Propose(view);
    // Slots that are no longer needed wait for the next plan; when nothing runs, a plan without
    // rows drops them.
    if (proposal.empty() && (!batch_.has_drops() || !ledger_.empty())) return;
    if (!proposal.rows.empty()) proposal.wanted = residency_.Want(view, proposal);
    if (!proposal.preempt.empty()) parts_.observer->OnPreempted(proposal.preempt.size());
    Send(batch_.Commit(proposal, group_.epoch(), next_step_++));
  }
}

void SchedulerEngine::Send(CommittedStep step) {
  for (const SequenceAdd& add : step.plan.add) {
    desk_.Enter(desk_.table().Find(add.seq_id), now_);
  }
  group_.SendToMembers(step.plan);
  ledger_.Push({step.plan.step_id, now_, std::move(step.rows), group_.members(), step.num_tokens,
                step.has_late_rows});
}

void SchedulerEngine::Publish() {
  EngineGauges gauges;
  gauges.requests_running = batch_.num_running();
  gauges.requests_waiting = desk_.table().size() - batch_.num_running();
  for (int32_t rank = 0; rank < static_cast<int32_t>(parts_.workers.size()); ++rank) {
    gauges.workers_up.push_back(group_.IsUp(rank));
  }
  gauges.router_up = routes_.up();
  gauges.kv_blocks = batch_.num_blocks();
  gauges.kv_blocks_used = batch_.num_blocks_used();
  if (!(gauges == gauges_)) parts_.observer->OnGauges(gauges);
  gauges_ = gauges;
  health_.SetLoopProgress(now_);
  health_.SetWorkerProgress(group_.LastHeard());
  health_.SetRouterProgress(dense() ? now_ : routes_.LastHeard(now_));
  health_.SetServing(begun_, dense() || routes_.up(), draining_);
}

// A late row may name any expert, so it needs them all to fit.
int SchedulerEngine::PipelineDepth() const {
  return options_.run_ahead && !late_rows_refused_ && !ServiceRoutesDecode() && residency_.all_fit()
             ? 2
             : 1;
}

int32_t SchedulerEngine::StepTokens() const {
  return std::min(options_.step_tokens, group_.limits().step_tokens);
}

// --- clients ---

scheduler::AdmissionLimits SchedulerEngine::Limits() const {
  scheduler::AdmissionLimits limits;
  limits.vocab_size = group_.facts()->vocab_size;
  limits.num_experts = group_.facts()->num_experts;
  limits.context_tokens = group_.limits().context_tokens;
  limits.kv_tokens = group_.limits().kv_blocks * kKvBlockTokens;
  limits.queue_requests = options_.queue_requests;
  limits.stop_strings = kStopStringsMax;
  limits.stop_string_bytes = kStopStringBytesMax;
  limits.stop_tokens = kStopTokensMax;
  return limits;
}

void SchedulerEngine::Handle(SubmitEvent& event) {
  if (draining_)
    return desk_.Refuse(event.sink.get(), absl::UnavailableError("the scheduler is draining"),
                        now_);
  if (!group_.facts()) {
    return desk_.Refuse(event.sink.get(), absl::UnavailableError("no worker has attached yet"),
                        now_);
  }
  if (!group_.held().empty()) {
    return desk_.Refuse(event.sink.get(), absl::UnavailableError(group_.held()), now_);
  }
  LiveRequest* request = desk_.Admit(std::move(event), Limits(), now_);
  if (!request) return;
  if (const auto reason = desk_.ReplayResumed(request)) return Finish(request, *reason);
  EnqueueIfNew(request);  // a dense model's
  if (request->sequence.all_routed()) return OnRouted(request);
  routes_.Request(&request->sequence, now_);
}

void SchedulerEngine::Handle(CancelEvent& event) {
  LiveRequest* request = desk_.table().FindByClient(event.client_key);
  if (request)
    End(request, absl::CancelledError("the client has cancelled"), FinishReason::kCancelled);
}

void SchedulerEngine::Handle(DrainEvent& event) {
  if (std::exchange(draining_, true)) return;
  drain_until_ = now_ + options_.drain_timeout;
}

void SchedulerEngine::Finish(LiveRequest* request, FinishReason reason) {
  desk_.Start(request, group_.facts()->model_digest, group_.facts()->numerics_id);
  desk_.Deliver(request, now_);
  End(request, absl::OkStatus(), reason);
}

void SchedulerEngine::End(LiveRequest* request, absl::Status status, FinishReason reason) {
  batch_.Remove(&request->sequence);
  routes_.Close(request->sequence.id);
  desk_.Close(request, std::move(status), reason, now_);
}

// --- router ---

void SchedulerEngine::Handle(RouterEvent& event) {
  routes_.OnHeard(now_);
  if (auto* response = std::get_if<RouteResponse>(&event.message)) return OnRoutes(*response);
  const auto* hello = std::get_if<RouterHello>(&event.message);
  if (hello == nullptr) return;  // a pong
  router_hello_ = *hello;
  router_connected_ = true;
  UpdateRouter();
}

void SchedulerEngine::Handle(RouterDown& event) {
  router_connected_ = false;
  routes_.OnDown();
  parts_.observer->OnLog(LogLevel::kWarning, absl::StrCat("the router is down: ", event.reason));
}

// A router of another model is as good as none: its routes are not those of the workers' replicas.
void SchedulerEngine::UpdateRouter() {
  if (!router_connected_ || !group_.facts() || dense()) return routes_.OnDown();
  const scheduler::ModelFacts& facts = *group_.facts();
  if (router_hello_.num_experts == facts.num_experts &&
      router_hello_.vocab_size == facts.vocab_size &&
      router_hello_.router_digest == facts.router_digest) {
    return routes_.OnUp(now_, router_hello_.answers_pings);
  }
  routes_.OnDown();
  parts_.observer->OnLog(
      LogLevel::kError,
      absl::StrCat("the router is refused: digest ", router_hello_.router_digest, ", ",
                   router_hello_.num_experts, " experts, vocabulary ", router_hello_.vocab_size,
                   "; the workers have digest ", facts.router_digest, ", ", facts.num_experts,
                   " experts, vocabulary ", facts.vocab_size));
}

void SchedulerEngine::OnRoutes(RouteResponse& response) {
  LiveRequest* request = desk_.table().Find(response.session);
  if (!request || !routes_.up()) return;
  const bool was_routed = request->sequence.all_routed();
  const absl::Status status = routes_.OnResponse(response, group_.facts()->num_experts, now_);
  if (!status.ok()) return End(request, status);
  EnqueueIfNew(request);
  if (!was_routed && request->sequence.all_routed()) OnRouted(request);
}

// A routed prefix is enough to run; the planner sends no token before its route is there.
void SchedulerEngine::EnqueueIfNew(LiveRequest* request) {
  Sequence* s = &request->sequence;
  if (s->state != scheduler::SequenceState::kRouting || s->num_routed() == 0) return;
  request->enqueued = now_;
  batch_.Enqueue(s);
}

// Every token has its route. The first time that is the prompt: the client learns its routes. Later
// it is a sampled token, which may go to the client now.
void SchedulerEngine::OnRouted(LiveRequest* request) {
  Sequence* s = &request->sequence;
  if (!ServiceRoutesDecode()) routes_.Close(s->id);  // the workers' replicas route what follows
  if (request->routed != absl::InfinitePast()) return desk_.Deliver(request, now_);
  request->routed = now_;
  parts_.observer->OnRouted(now_ - request->accepted, s->num_tokens());
  desk_.Start(request, group_.facts()->model_digest, group_.facts()->numerics_id);
}

}  // namespace pregate

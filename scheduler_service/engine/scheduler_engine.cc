#include "scheduler_service/engine/scheduler_engine.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {

using scheduler::CommittedStep;
using scheduler::LiveRequest;
using scheduler::Sequence;
using scheduler::StepAnswer;
using scheduler::WorkerGroup;

SchedulerEngine::SchedulerEngine(EngineOptions options, EngineParts parts)
    : options_(std::move(options)),
      parts_(std::move(parts)),
      own_planner_(scheduler::MakePlanner(options_.batching, options_.planner)),
      planner_(parts_.planner ? parts_.planner : own_planner_.get()),
      requests_(parts_.tokenizer, parts_.random, parts_.observer, options_.queue_max),
      routes_(parts_.router, options_.route_resend, options_.step_tokens),
      group_(options_, parts_.workers, parts_.observer),
      batch_(options_.prefix_cache),
      kv_of_(parts_.workers.size()),
      residency_(scheduler::EvictionNamed(options_.eviction)),
      board_(parts_.workers.size()) {}

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
  return std::min({now_ + options_.heartbeat, requests_.table().NextDeadline(), group_.NextForm(),
                   drain_until_});
}

void SchedulerEngine::HandleTimers() {
  for (SeqId id : requests_.table().Expired(now_)) {
    End(requests_.table().Find(id), absl::DeadlineExceededError("the deadline has passed"),
        FinishReason::kDeadline);
  }
  for (SeqId id : routes_.OnTick(now_)) {
    End(requests_.table().Find(id), absl::UnavailableError("the router gives no routes"));
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
  for (SeqId id : requests_.table().Ids()) End(requests_.table().Find(id), status);
}

void SchedulerEngine::PlanAndSend() {
  for (int depth; begun_ && ledger_.size() < (depth = PipelineDepth());) {
    scheduler::PlannerView base;
    base.step_id = next_step_;
    base.step_tokens = StepTokens();
    base.preemptions_max = options_.preemptions_max;
    base.late_rows = !ledger_.empty();
    if (depth == 1 && MayDraft()) base.drafts_cost = &drafting_.cost();
    residency_.Fill(&base);
    base.habits = &habits_;
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
    LiveRequest* request = requests_.table().Find(add.seq_id);
    requests_.Enter(request, now_);
    if (!options_.prefix_cache) continue;
    parts_.observer->OnPrefix(request->sequence.num_tokens(),
                              static_cast<int64_t>(add.history.size()));
  }
  int32_t num_drafts = 0;
  for (const scheduler::SentRow& row : step.rows) {
    if (row.drafts > 0) requests_.table().Find(row.seq_id)->draft_tokens += row.drafts;
    num_drafts += row.drafts;
  }
  ledger_.Push({.id = step.plan.step_id,
                .sent_at = now_,
                .rows = std::move(step.rows),
                .awaiting = group_.members(),
                .num_tokens = step.num_tokens,
                .has_late_rows = step.has_late_rows,
                .decodes_only = step.decodes_only,
                .experts = std::move(step.experts),
                .num_decodes = step.num_decodes,
                .num_drafts = num_drafts});
  group_.SendToMembers(std::move(step.plan));
}

void SchedulerEngine::Publish() {
  EngineGauges gauges;
  gauges.requests_running = batch_.num_running();
  gauges.requests_waiting = requests_.table().size() - batch_.num_running();
  for (int32_t rank = 0; rank < static_cast<int32_t>(parts_.workers.size()); ++rank) {
    gauges.workers_up.push_back(group_.IsUp(rank));
  }
  gauges.router_up = routes_.up();
  gauges.kv_blocks = batch_.num_blocks();
  gauges.kv_blocks_used = batch_.num_blocks_used();
  gauges.routed_ahead = batch_.num_routed_ahead();
  gauges.reuse = residency_.reuse();
  gauges.kv_blocks_cached = batch_.num_blocks_cached();
  gauges.kv_evictions = batch_.num_evictions();
  if (!(gauges == gauges_)) {
    parts_.observer->OnGauges(gauges);
    board_.SetGauges(gauges);
  }
  gauges_ = gauges;
  if (std::exchange(workers_changed_, false)) ShowWorkers();
  health_.SetLoopProgress(now_);
  health_.SetWorkerProgress(group_.LastHeard());
  health_.SetRouterProgress(dense() ? now_ : routes_.LastHeard(now_));
  health_.SetServing(begun_, dense() || routes_.up(), draining_);
}

void SchedulerEngine::ShowWorkers() {
  std::vector<WorkerStanding> workers;
  for (int32_t rank = 0; rank < static_cast<int32_t>(parts_.workers.size()); ++rank) {
    const WorkerFacts& facts = group_.HelloOf(rank).facts;
    const bool up = group_.IsUp(rank);
    workers.push_back({.up = up,
                       .member = begun_ && group_.IsMember(rank),
                       .device = facts.device,
                       .unit_slots = facts.unit_slots,
                       .units = up ? residency_.UnitsOf(rank) : std::vector<UnitState>()});
  }
  board_.SetWorkers(begun_, group_.epoch(), std::move(workers));
}

// A late row may name any expert, so it needs them all to fit. Drafts need the token before them.
int SchedulerEngine::PipelineDepth() const {
  const bool may_run_ahead =
      options_.run_ahead && !late_rows_refused_ && !ServiceRoutesDecode() && residency_.all_fit();
  if (!may_run_ahead) return 1;
  return MayDraft() && drafting_.BeatsRunAhead(batch_.running()) ? 1 : 2;
}

bool SchedulerEngine::MayDraft() const {
  return options_.drafts == Drafts::kNgram && !ServiceRoutesDecode() && residency_.takes_drafts();
}

int32_t SchedulerEngine::StepTokens() const {
  return std::min(options_.step_tokens, group_.facts()->step_tokens);
}

// --- clients ---

void SchedulerEngine::Handle(SubmitEvent& event) {
  if (draining_)
    return requests_.Refuse(event.send, absl::UnavailableError("the scheduler is draining"), now_);
  if (!group_.facts()) {
    return requests_.Refuse(event.send, absl::UnavailableError("no worker has attached yet"), now_);
  }
  if (!group_.held().empty()) {
    return requests_.Refuse(event.send, absl::UnavailableError(group_.held()), now_);
  }
  LiveRequest* request = requests_.Admit(std::move(event), *group_.facts(), now_);
  if (!request) return;
  const absl::StatusOr<std::optional<FinishReason>> replayed = requests_.ReplayResumed(request);
  if (!replayed.ok()) return End(request, replayed.status());
  if (*replayed) return Finish(request, **replayed);
  EnqueueIfNew(request);  // a dense model's
  if (request->sequence.all_routed()) return OnRouted(request);
  routes_.Request(&request->sequence, now_);
}

void SchedulerEngine::Handle(DetachEvent& event) {
  LiveRequest* request = requests_.table().FindByLink(event.link);
  if (request)
    End(request, absl::CancelledError("the client has cancelled"), FinishReason::kCancelled);
}

void SchedulerEngine::Handle(DrainEvent& event) {
  if (std::exchange(draining_, true)) return;
  drain_until_ = now_ + options_.drain_timeout;
}

void SchedulerEngine::Finish(LiveRequest* request, FinishReason reason) {
  requests_.Start(request, *group_.facts());
  requests_.Deliver(request, now_);
  End(request, absl::OkStatus(), reason);
}

void SchedulerEngine::End(LiveRequest* request, absl::Status status, FinishReason reason) {
  batch_.Remove(&request->sequence);
  drafting_.Forget(request->sequence.id);
  routes_.Close(request->sequence.id);
  requests_.Close(request, std::move(status), reason, now_);
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
  const WorkerFacts& facts = *group_.facts();
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
  LiveRequest* request = requests_.table().Find(response.seq_id);
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
  if (MayDraft()) drafting_.Follow(s);
}

// Every token has its route. The first time that is the prompt: the client learns its routes. Later
// it is a sampled token, which may go to the client now.
void SchedulerEngine::OnRouted(LiveRequest* request) {
  Sequence* s = &request->sequence;
  if (!ServiceRoutesDecode()) routes_.Close(s->id);  // the workers' replicas route what follows
  if (request->routed != absl::InfinitePast()) return requests_.Deliver(request, now_);
  request->routed = now_;
  habits_.Observe(s->routes);
  parts_.observer->OnRouted(now_ - request->accepted, s->num_tokens());
  requests_.Start(request, *group_.facts());
}

// --- workers: epochs, recovery, the commit of answers ---

void SchedulerEngine::Handle(WorkerEvent& event) {
  if (event.rank < 0 || event.rank >= static_cast<int32_t>(parts_.workers.size())) return;
  group_.OnHeard(event.rank, event.message, now_);
  std::visit([&](auto& message) { OnMessage(event.rank, message); }, event.message);
}

void SchedulerEngine::Handle(WorkerDown& event) {
  if (event.rank < 0 || event.rank >= static_cast<int32_t>(parts_.workers.size())) return;
  RecoverIf(group_.OnDown(event.rank, event.reason, now_));
}

void SchedulerEngine::OnMessage(int32_t rank, Hello& hello) {
  late_rows_refused_ = false;
  RecoverIf(group_.OnHello(rank, hello, requests_.table().empty(), now_));
  if (group_.IsUp(rank)) residency_.OnHello(rank, hello);
  workers_changed_ = true;
  if (!routes_.up() || requests_.table().empty()) UpdateRouter();  // the facts may have changed
}

void SchedulerEngine::OnMessage(int32_t rank, Formed& formed) {
  RecoverIf(group_.OnFormed(rank, formed, now_));
  if (group_.formed() && !begun_) BeginEpoch();
}

void SchedulerEngine::BeginEpoch() {
  begun_ = workers_changed_ = true;
  next_step_ = 1;
  std::vector<scheduler::RankBlocks> ranks;
  for (int32_t rank : group_.members()) {
    ForgetLostKv(rank);
    ranks.push_back({rank, group_.HelloOf(rank).facts.kv_blocks});
  }
  residency_.BeginEpoch(group_.members(), group_.placement());
  if (habits_.num_experts() != group_.facts()->num_experts) {
    habits_.Reset(group_.facts()->num_experts);
  }
  batch_.Reset(ranks, std::min({group_.facts()->seq_slots, options_.running_max, StepTokens()}));
  const int32_t tokens_max =
      std::min(group_.facts()->context_tokens, group_.facts()->kv_blocks * kKvBlockTokens);
  for (SeqId id : requests_.table().Ids()) {
    LiveRequest* request = requests_.table().Find(id);
    if (request->sequence.max_len <= tokens_max) continue;
    End(request, absl::ResourceExhaustedError(absl::StrCat(
                     "the workers that are left hold ", tokens_max,
                     " tokens of a sequence, this one may need ", request->sequence.max_len)));
  }
  parts_.observer->OnFormed(group_.epoch(), *group_.facts());
}

// What the rank holds outlives epochs, but not its process, nor another scheduler's plans.
void SchedulerEngine::ForgetLostKv(int32_t rank) {
  KvContents& kv = kv_of_[rank];
  const uint64_t incarnation = group_.HelloOf(rank).incarnation;
  const Epoch ours_since = group_.KvSince(rank);
  if (kv.incarnation == incarnation && ours_since > 0 && kv.since >= ours_since) return;
  batch_.Forget(rank);
  kv = {incarnation, group_.epoch()};
}

// The one form of recovery. A sequence that is part of too many without a new token may be their
// cause.
void SchedulerEngine::RecoverIf(const WorkerGroup::VoidReason& reason, absl::Duration wait) {
  if (!reason) return;
  parts_.observer->OnLog(LogLevel::kWarning,
                         absl::StrCat("epoch ", group_.epoch(), " is void: ", *reason));
  parts_.observer->OnRecovery(*reason);
  absl::flat_hash_set<SeqId> involved;
  for (const scheduler::SentStep& step : ledger_.steps()) {
    for (const scheduler::SentRow& row : step.rows) involved.insert(row.seq_id);
  }
  ledger_.Clear();
  batch_.Reset({}, 0);
  group_.Void(now_, wait);
  begun_ = false;
  workers_changed_ = true;
  for (SeqId id : requests_.table().Ids()) {
    LiveRequest* request = requests_.table().Find(id);
    if (!involved.contains(id) || ++request->recoveries_without_token <= options_.recoveries_max)
      continue;
    End(request,
        absl::InternalError(absl::StrCat("the workers failed ", options_.recoveries_max,
                                         " times in a row with this request, last: ", *reason)));
  }
}

void SchedulerEngine::OnMessage(int32_t rank, Progress& progress) {
  if (group_.forming() && progress.epoch == group_.epoch()) return group_.OnAdvance(rank, now_);
  const bool is_due = begun_ && progress.epoch == group_.epoch() && !ledger_.empty() &&
                      progress.step_id == ledger_.steps().front().id;
  if (is_due) group_.OnAdvance(rank, now_);
}

void SchedulerEngine::OnMessage(int32_t rank, UnitEvents& events) {
  MirrorUnits(rank, events.events);
}

// What a rank holds outlives its epochs, so events of an old one count too.
void SchedulerEngine::MirrorUnits(int32_t rank, const std::vector<UnitEvent>& events) {
  if (events.empty() || !group_.IsUp(rank)) return;
  workers_changed_ = true;
  const absl::Status status = residency_.OnEvents(rank, events);
  if (!status.ok()) {
    parts_.observer->OnLog(LogLevel::kWarning,
                           absl::StrCat("worker ", rank, ": ", status.message()));
  }
}

void SchedulerEngine::OnMessage(int32_t rank, StepResult& result) {
  MirrorUnits(rank, result.unit_events);
  if (!begun_ || result.epoch != group_.epoch() || !group_.IsMember(rank)) return;
  if (result.incarnation != group_.HelloOf(rank).incarnation) return;
  const bool refuses_late_rows = absl::IsFailedPrecondition(result.status) && !ledger_.empty() &&
                                 ledger_.steps().front().id == result.step_id &&
                                 ledger_.steps().front().has_late_rows;
  if (refuses_late_rows) late_rows_refused_ = true;
  const scheduler::UnitTally units = {result.unit_hits, result.unit_misses, result.stall_us};
  absl::StatusOr<StepAnswer> answer = ledger_.Match(rank, std::move(result), *group_.facts(), now_);
  if (!answer.ok()) {
    // If it is a peer's death that has failed the step, the peer's link says so next.
    const absl::Duration wait =
        group_.members().size() > 1 ? options_.form_backoff_min : absl::ZeroDuration();
    return RecoverIf(absl::StrCat("worker ", rank, ": ", answer.status().message()), wait);
  }
  group_.OnAdvance(rank, now_);
  if (answer->stale) return;
  board_.AddAnswer(rank, units);
  if (parts_.answers != nullptr) parts_.answers->Begin(answer->samples.size());
  CommitAnswer(rank, *answer);
  if (parts_.answers != nullptr) parts_.answers->End();
}

void SchedulerEngine::CommitAnswer(int32_t rank, StepAnswer& answer) {
  for (RowScores& scores : answer.scores) CommitScores(scores);
  for (size_t begin = 0, end; begin < answer.samples.size(); begin = end) {
    for (end = begin + 1; end < answer.samples.size() &&
                          answer.samples[end].seq_id == answer.samples[begin].seq_id;) {
      ++end;
    }
    CommitSamples(absl::MakeSpan(answer.samples).subspan(begin, end - begin));
  }
  for (const scheduler::ComputedRow& row : answer.computed) {
    LiveRequest* request = requests_.table().Find(row.seq_id);
    if (request) batch_.OnComputed(&request->sequence, row.end);
  }
  for (const RowError& error : answer.errors) {
    LiveRequest* request = requests_.table().Find(error.seq_id);
    if (!request) continue;
    batch_.Distrust(&request->sequence);
    End(request, absl::InternalError(absl::StrCat("worker ", rank, ": ", error.message)));
  }
  for (SeqId id : answer.unanswered) {
    if (!requests_.table().Find(id)) continue;
    return RecoverIf(absl::StrCat("worker ", rank, " left out the sample of sequence ", id));
  }
  group_.OnStepAnswered();
  if (!answer.complete) return;
  residency_.OnStep(answer.experts, static_cast<double>(answer.step_us_max), !answer.decodes_only);
  if (answer.decodes_only && answer.num_tokens > 0) {
    drafting_.OnDecodeStep(answer.num_tokens, static_cast<double>(answer.step_us_max));
  }
  StepReport report;
  report.duration = absl::Microseconds(answer.step_us_max);
  report.round_trip = now_ - answer.sent_at;
  report.num_rows = answer.num_rows;
  report.num_tokens = answer.num_tokens;
  report.unique_experts = answer.unique_experts;
  parts_.observer->OnStep(report);
  Show(answer);
}

// Steps without rows, which only drop slots, are nothing to look at.
void SchedulerEngine::Show(StepAnswer& answer) {
  if (answer.num_rows == 0) return;
  std::vector<ExpertId> experts = std::move(answer.experts);
  experts.insert(experts.end(), answer.ran.begin(), answer.ran.end());
  std::sort(experts.begin(), experts.end());
  experts.erase(std::unique(experts.begin(), experts.end()), experts.end());
  board_.AddStep(
      {.begin = answer.sent_at,
       .round_trip = now_ - answer.sent_at,
       .step_us = answer.step_us_max,
       .decode_rows = answer.num_decodes,
       .prefill_rows = answer.num_rows - answer.num_decodes,
       .prefill_tokens = answer.num_tokens - answer.num_decodes - answer.num_drafts,
       .draft_tokens = answer.num_drafts,
       .accepted_drafts = answer.num_accepted,
       .experts = std::move(experts),
       .unique_experts = answer.unique_experts,
       .units = answer.units,
       .ranks = std::make_shared<const std::vector<scheduler::RankStep>>(std::move(answer.ranks))});
}

// A sequence that was preempted meanwhile may be scored twice where the answers cross: what is known
// stands.
void SchedulerEngine::CommitScores(RowScores& scores) {
  LiveRequest* request = requests_.table().Find(scores.seq_id);
  if (!request) return;
  Sequence* s = &request->sequence;
  const int32_t known = s->scored - scores.position;
  if (known < 0 || known >= static_cast<int32_t>(scores.top.size())) return;
  for (auto top = scores.top.begin() + known; top != scores.top.end(); ++top) {
    top->resize(std::min<size_t>(top->size(), 1 + s->prompt_logprobs));
    request->prompt_logprobs.push_back(std::move(*top));
    ++s->scored;
  }
  requests_.DeliverPrompt(request);
}

// Of one row: the token that was drawn, and those behind drafts that were right. What comes for a
// sequence that has ended (a stop, a cancel) meanwhile is past its end and not wanted.
void SchedulerEngine::CommitSamples(absl::Span<Sample> samples) {
  LiveRequest* request = requests_.table().Find(samples[0].seq_id);
  if (!request) return;
  Sequence* s = &request->sequence;
  batch_.OnSamples(s, static_cast<int32_t>(samples.size()));
  request->recoveries_without_token = 0;
  for (Sample& sample : samples) {
    PREGATE_CHECK(sample.position == s->num_tokens(), "sample at ", sample.position, " of ",
                  s->num_tokens(), " tokens");
    s->Append(sample.token, ServiceRoutesDecode() ? kNoRoute : sample.route);
    if (s->logprobs >= 0) {
      sample.logprobs.resize(std::min<size_t>(sample.logprobs.size(), 1 + s->logprobs));
      request->logprobs.push_back(std::move(sample.logprobs));
    }
    if (&sample != &samples[0]) ++request->accepted_tokens;
    habits_.Observe(absl::MakeConstSpan(s->routes).last(2));
    if (const auto reason = request->output.Accept(sample.token)) return Finish(request, *reason);
    if (const absl::Status s = requests_.Constrain(request); !s.ok()) {
      return End(request, absl::InternalError(s.message()));
    }
  }
  if (MayDraft()) drafting_.Follow(s);
  if (s->all_routed()) return requests_.Deliver(request, now_);
  routes_.Request(s, now_);  // it leaves the batch until the route is there
}

}  // namespace pregate

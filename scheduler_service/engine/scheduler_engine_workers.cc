// The workers' side of the loop: events, epochs, recovery, the commit of answers.
#include <algorithm>
#include <utility>
#include <variant>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "scheduler_service/engine/scheduler_engine.h"

namespace pregate {

using scheduler::LiveRequest;
using scheduler::Sequence;
using scheduler::StepAnswer;
using scheduler::WorkerGroup;

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
  RecoverIf(group_.OnHello(rank, hello, desk_.table().empty(), now_));
  if (group_.IsUp(rank)) residency_.OnHello(rank, hello);
  if (!routes_.up() || desk_.table().empty()) UpdateRouter();  // the facts may have changed
}

void SchedulerEngine::OnMessage(int32_t rank, Formed& formed) {
  RecoverIf(group_.OnFormed(rank, formed, now_));
  if (group_.formed() && !begun_) BeginEpoch();
}

void SchedulerEngine::BeginEpoch() {
  begun_ = true;
  next_step_ = 1;
  std::vector<scheduler::RankBlocks> ranks;
  for (int32_t rank : group_.members()) ranks.push_back({rank, group_.HelloOf(rank).kv_blocks});
  residency_.BeginEpoch(group_.members(), group_.placement());
  batch_.Reset(ranks, std::min({group_.limits().seq_slots, options_.running_max, StepTokens()}));
  const int32_t tokens_max =
      std::min(group_.limits().context_tokens, group_.limits().kv_blocks * kKvBlockTokens);
  for (SeqId id : desk_.table().Ids()) {
    LiveRequest* request = desk_.table().Find(id);
    if (request->sequence.max_len <= tokens_max) continue;
    End(request, absl::ResourceExhaustedError(absl::StrCat(
                     "the workers that are left hold ", tokens_max,
                     " tokens of a sequence, this one may need ", request->sequence.max_len)));
  }
  parts_.observer->OnFormed(group_.epoch(), group_.HelloOf(group_.members().front()));
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
  for (SeqId id : desk_.table().Ids()) {
    LiveRequest* request = desk_.table().Find(id);
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
  scheduler::UnitCounts counts;
  const absl::Status status = residency_.OnEvents(rank, events, &counts);
  if (!status.ok()) {
    parts_.observer->OnLog(LogLevel::kWarning,
                           absl::StrCat("worker ", rank, ": ", status.message()));
  }
  parts_.observer->OnUnits(counts);
}

void SchedulerEngine::OnMessage(int32_t rank, StepResult& result) {
  MirrorUnits(rank, result.unit_events);
  if (!begun_ || result.epoch != group_.epoch() || !group_.IsMember(rank)) return;
  if (result.incarnation != group_.HelloOf(rank).incarnation) return;
  const bool refuses_late_rows = absl::IsFailedPrecondition(result.status) && !ledger_.empty() &&
                                 ledger_.steps().front().id == result.step_id &&
                                 ledger_.steps().front().has_late_rows;
  if (refuses_late_rows) late_rows_refused_ = true;
  absl::StatusOr<StepAnswer> answer = ledger_.Match(
      rank, std::move(result), {group_.facts()->vocab_size, group_.facts()->num_experts});
  if (!answer.ok()) {
    // If it is a peer's death that has failed the step, the peer's link says so next.
    const absl::Duration wait =
        group_.members().size() > 1 ? options_.form_backoff_min : absl::ZeroDuration();
    return RecoverIf(absl::StrCat("worker ", rank, ": ", answer.status().message()), wait);
  }
  group_.OnAdvance(rank, now_);
  if (!answer->stale) CommitAnswer(rank, *answer);
}

void SchedulerEngine::CommitAnswer(int32_t rank, const StepAnswer& answer) {
  for (const Sample& sample : answer.samples) CommitSample(sample);
  for (const RowError& error : answer.errors) {
    LiveRequest* request = desk_.table().Find(error.seq_id);
    if (request)
      End(request, absl::InternalError(absl::StrCat("worker ", rank, ": ", error.message)));
  }
  for (SeqId id : answer.unanswered) {
    if (!desk_.table().Find(id)) continue;
    return RecoverIf(absl::StrCat("worker ", rank, " left out the sample of sequence ", id));
  }
  group_.OnStepAnswered();
  if (!answer.complete) return;
  StepReport report;
  report.duration = absl::Microseconds(answer.step_us_max);
  report.round_trip = now_ - answer.sent_at;
  report.num_rows = answer.num_rows;
  report.num_tokens = answer.num_tokens;
  report.unique_experts = answer.unique_experts;
  parts_.observer->OnStep(report);
}

// A sample of a sequence that has ended (a stop, a cancel) meanwhile is past its end and not
// wanted.
void SchedulerEngine::CommitSample(const Sample& sample) {
  LiveRequest* request = desk_.table().Find(sample.seq_id);
  if (!request) return;
  Sequence* s = &request->sequence;
  PREGATE_CHECK(sample.position == s->num_tokens(), "sample at ", sample.position, " of ",
                s->num_tokens(), " tokens");
  --s->samples_in_flight;
  s->Append(sample.token, ServiceRoutesDecode() ? kNoRoute : sample.route);
  request->recoveries_without_token = 0;
  if (const auto reason = request->output.Accept(sample.token)) return Finish(request, *reason);
  if (s->all_routed()) return desk_.Deliver(request, now_);
  routes_.Request(s, now_);  // it leaves the batch until the route is there
}

}  // namespace pregate

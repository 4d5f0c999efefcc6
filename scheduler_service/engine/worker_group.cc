#include "scheduler_service/engine/worker_group.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

absl::Status CheckRange(absl::string_view field, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", must be ", min, "..", max));
}

absl::Status CheckSame(absl::string_view field, const std::string& value,
                       const std::string& expected) {
  if (value == expected) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(field, " is ", value, ", the cell's is ", expected));
}

absl::Status CheckSizes(const WorkerFacts& facts) {
  RETURN_IF_ERROR(CheckRange("kv_blocks", facts.kv_blocks, 1, kKvBlocksMax));
  RETURN_IF_ERROR(CheckRange("seq_slots", facts.seq_slots, 1, kSeqSlotsMax));
  RETURN_IF_ERROR(CheckRange("step_tokens", facts.step_tokens, 1, kStepTokensMax));
  RETURN_IF_ERROR(CheckRange("context_tokens", facts.context_tokens, 2, kContextTokensMax));
  RETURN_IF_ERROR(CheckRange("vocab_size", facts.vocab_size, 1, INT32_MAX));
  RETURN_IF_ERROR(CheckRange("num_layers", facts.num_layers, 0, kLayersMax));
  RETURN_IF_ERROR(CheckRange("unit_slots", facts.unit_slots, 0, kResidentUnitsMax));
  return CheckRange("num_experts", facts.num_experts, 0, kExpertsMax);
}

// Asked again, the worker would answer the same.
bool IsOwnFault(const absl::Status& formed) {
  return !absl::IsAborted(formed) && !absl::IsUnavailable(formed) &&
         !absl::IsPermissionDenied(formed);
}

// Whole experts to ranks, round robin.
Placement RoundRobin(int32_t num_experts, int32_t num_members) {
  Placement placement;
  for (int32_t e = 0; e < num_experts; ++e) placement.ranks.push_back({e % num_members});
  return placement;
}

}  // namespace

WorkerGroup::WorkerGroup(const EngineOptions& options, std::vector<WorkerLink*> links,
                         SchedulerObserver* observer)
    : options_(options), observer_(observer) {
  for (WorkerLink* link : links) {
    workers_.emplace_back();
    workers_.back().link = link;
  }
}

absl::Status WorkerGroup::CheckHello(int32_t rank, const Hello& hello,
                                     bool may_change_model) const {
  const WorkerFacts& facts = hello.facts;
  RETURN_IF_ERROR(CheckRange("protocol", hello.protocol, kWorkerProtocol, kWorkerProtocol));
  RETURN_IF_ERROR(CheckRange("rank", hello.rank, rank, rank));
  RETURN_IF_ERROR(CheckSizes(facts));
  if (!options_.model_digest.empty()) {
    RETURN_IF_ERROR(CheckSame("model_digest", facts.model_digest, options_.model_digest));
  }
  if (!facts_ || (may_change_model && num_up() == 0)) return absl::OkStatus();
  RETURN_IF_ERROR(CheckSame("model_digest", facts.model_digest, facts_->model_digest));
  RETURN_IF_ERROR(CheckSame("router_digest", facts.router_digest, facts_->router_digest));
  RETURN_IF_ERROR(CheckSame("numerics_id", facts.numerics_id, facts_->numerics_id));
  RETURN_IF_ERROR(
      CheckRange("vocab_size", facts.vocab_size, facts_->vocab_size, facts_->vocab_size));
  return CheckRange("num_experts", facts.num_experts, facts_->num_experts, facts_->num_experts);
}

WorkerGroup::VoidReason WorkerGroup::OnHello(int32_t rank, const Hello& hello,
                                             bool may_change_model, absl::Time now) {
  const bool was_involved = Involved(rank);
  if (was_involved) CountLoss(rank, now);
  Worker& worker = workers_[rank];
  worker.up = false;
  if (const absl::Status status = CheckHello(rank, hello, may_change_model); !status.ok()) {
    observer_->OnLog(LogLevel::kError,
                     absl::StrCat("worker ", rank, " is refused: ", status.message()));
    if (was_involved) return absl::StrCat("worker ", rank, " came back as another");
    if (state_ == State::kDue && num_up() == 0) state_ = State::kNoWorker;
    return std::nullopt;
  }
  worker = {.link = worker.link,
            .up = true,
            .damped = worker.damped,
            .asked = worker.asked,
            .hello = hello,
            .rendezvous = hello.rendezvous,
            .since = now,
            .alive = now,
            .heard = now,
            .advanced = now,
            .losses = worker.losses,
            .lost = worker.lost};
  if (!in_epoch()) facts_ = hello.facts;  // within one they are equal, and the sizes its members'
  held_.clear();
  TakeEpoch(rank, hello.highest_epoch);
  observer_->OnLog(LogLevel::kInfo, absl::StrCat("worker ", rank, " is up: ", hello.facts.device,
                                                 ", ", hello.facts.kv_blocks, " KV blocks, ",
                                                 hello.facts.seq_slots, " slots"));
  if (hello.lease_ms > 0) worker.link->Send(Renew{});
  if (was_involved) return absl::StrCat("worker ", rank, " has attached anew");
  if (in_epoch()) return Grow(now);
  if (state_ == State::kNoWorker) gather_until_ = now + options_.form_wait;
  next_form_ = std::max(next_form_, now);  // a worker that comes and goes has to wait
  state_ = State::kDue;
  ChooseMembers();
  return std::nullopt;
}

// Numbers that no cell can have come to are somebody's mischief; the worker takes a lower one.
void WorkerGroup::TakeEpoch(int32_t rank, Epoch highest) {
  if (highest <= highest_epoch_ + Epoch{kEpochAheadMax}) {
    highest_epoch_ = std::max(highest_epoch_, highest);
    return;
  }
  observer_->OnLog(LogLevel::kWarning,
                   absl::StrCat("worker ", rank, " names epoch ", highest, ", more than ",
                                kEpochAheadMax, " above ", highest_epoch_, ": not followed"));
}

WorkerGroup::VoidReason WorkerGroup::OnDown(int32_t rank, const std::string& reason,
                                            absl::Time now) {
  const bool was_involved = Involved(rank);
  if (was_involved) CountLoss(rank, now);
  workers_[rank].up = false;
  workers_[rank].owes_formed = false;
  observer_->OnLog(LogLevel::kWarning, absl::StrCat("worker ", rank, " is down: ", reason));
  if (state_ == State::kDue && num_up() == 0) state_ = State::kNoWorker;
  if (was_involved) return absl::StrCat("worker ", rank, " is down");
  return std::nullopt;
}

WorkerGroup::VoidReason WorkerGroup::OnFormed(int32_t rank, const Formed& formed, absl::Time now) {
  Worker& worker = workers_[rank];
  // A late or unwelcome answer too says that the rendezvous before it is used up.
  worker.rendezvous = formed.rendezvous;
  if (formed.epoch == worker.asked) worker.owes_formed = false;
  const bool is_held = absl::IsPermissionDenied(formed.status);
  if (is_held) {
    OnHeld(&worker, absl::StrCat("worker ", rank, ": ", formed.status.message()));
  }
  if (!Involved(rank) || formed.epoch != epoch_) return std::nullopt;
  if (is_held && state_ == State::kForming) {
    Void(now);  // nothing has run: a scheduler that stands by is no recovery
    return std::nullopt;
  }
  if (!formed.status.ok()) {
    if (IsOwnFault(formed.status)) CountLoss(rank, now, /*damp=*/true);
    return absl::StrCat("worker ", rank, " refuses epoch ", epoch_, ": ", formed.status.message());
  }
  worker.answered = true;
  worker.kv_since = formed.kv_since;
  worker.held = false;
  if (state_ == State::kForming && Unanswered().empty()) {
    state_ = State::kFormed;
    held_.clear();
  }
  return std::nullopt;
}

void WorkerGroup::OnHeld(Worker* worker, const std::string& why) {
  if (!worker->held) observer_->OnLog(LogLevel::kWarning, why);
  worker->held = true;
  const bool all = std::all_of(workers_.begin(), workers_.end(),
                               [](const Worker& w) { return !w.up || w.held; });
  if (all) held_ = why;
}

void WorkerGroup::OnHeard(int32_t rank, const FromWorker& message, absl::Time now) {
  Worker& worker = workers_[rank];
  const bool was_well = IsWell(worker);
  worker.alive = now;
  worker.silent = false;
  if (const auto* alive = std::get_if<Alive>(&message)) {
    worker.waits_for_peers = alive->waits_for_peers;
  } else {
    worker.heard = now;
    worker.stalled = false;
  }
  if (!was_well && IsWell(worker)) worker.since = now;
}

void WorkerGroup::CountLoss(int32_t rank, absl::Time now, bool damp) {
  Worker& worker = workers_[rank];
  const bool in_a_row = now - worker.lost <= options_.loss_window;
  worker.losses = (in_a_row ? worker.losses : 0) + 1;
  if (damp) worker.losses = std::max(worker.losses, options_.losses_damped);
  worker.lost = now;
  worker.damped = worker.losses >= options_.losses_damped;
  if (!worker.damped) return;
  observer_->OnLog(
      LogLevel::kWarning,
      absl::StrCat("worker ", rank, " has to wait: while others are there it is taken in ",
                   "again when it has been well for ", absl::FormatDuration(ReadmitWait(worker))));
}

absl::Duration WorkerGroup::ReadmitWait(const Worker& worker) const {
  const int doublings = std::clamp(worker.losses - options_.losses_damped, 0, 16);
  return std::min(options_.readmit_wait_min * (1 << doublings), options_.readmit_wait_max);
}

// Who freezes while it waits begins again when it is heard.
void WorkerGroup::EndDamping(absl::Time now) {
  for (Worker& worker : workers_) {
    if (!worker.damped || !IsWell(worker)) continue;
    worker.silent = IsSilent(worker, now);
    const absl::Time well_since = std::max(worker.since, worker.lost);
    if (!worker.silent && now - well_since >= ReadmitWait(worker)) worker.damped = false;
  }
}

WorkerGroup::VoidReason WorkerGroup::OnTick(absl::Span<const int32_t> owing, absl::Time since,
                                            absl::Time now) {
  if (now - last_tick_ > 3 * options_.heartbeat) awake_since_ = now;
  last_tick_ = now;
  EndDamping(now);
  std::vector<int32_t> waited_for(owing.begin(), owing.end());
  if (state_ != State::kFormed) {
    waited_for = Unanswered();
    since = form_sent_;
  }
  if (VoidReason reason = LeaveOutSilent(waited_for, now)) return reason;
  if (VoidReason reason = LeaveOutStalled(waited_for, since, now)) return reason;
  return Grow(now);
}

// Only where others could go on: a cell that has nobody else waits.
WorkerGroup::VoidReason WorkerGroup::LeaveOutSilent(absl::Span<const int32_t> owing,
                                                    absl::Time now) {
  const bool others = std::any_of(workers_.begin(), workers_.end(),
                                  [&](const Worker& w) { return IsWell(w) && !IsSilent(w, now); });
  VoidReason reason;
  for (int32_t rank : owing) {
    if (!others || !IsSilent(workers_[rank], now)) continue;
    workers_[rank].silent = true;
    reason = LeaveOut(rank, now);
  }
  return reason;
}

WorkerGroup::VoidReason WorkerGroup::LeaveOutStalled(absl::Span<const int32_t> owing,
                                                     absl::Time since, absl::Time now) {
  const auto is_stalled = [&](int32_t rank) {
    return Since(std::max(since, workers_[rank].advanced), now) >= options_.worker_stall_timeout;
  };
  const bool has_culprit = std::any_of(
      owing.begin(), owing.end(), [&](int32_t rank) { return !workers_[rank].waits_for_peers; });
  VoidReason reason;
  for (int32_t rank : owing) {
    if (has_culprit && workers_[rank].waits_for_peers) continue;
    if (!is_stalled(rank)) continue;
    workers_[rank].stalled = true;
    reason = LeaveOut(rank, now);
  }
  return reason;
}

// Between epochs there is nothing that it could end.
WorkerGroup::VoidReason WorkerGroup::LeaveOut(int32_t rank, absl::Time now) {
  if (!in_epoch()) return std::nullopt;
  CountLoss(rank, now);
  const Worker& worker = workers_[rank];
  return absl::StrCat("worker ", rank, " owes an answer; its process was last heard ",
                      absl::FormatDuration(now - worker.alive), " ago, its loop ",
                      absl::FormatDuration(now - worker.heard), " ago");
}

// Workers that are no members, in an epoch.
WorkerGroup::VoidReason WorkerGroup::Grow(absl::Time now) const {
  if (!in_epoch()) return std::nullopt;
  for (size_t rank = 0; rank < workers_.size(); ++rank) {
    if (!IsCandidate(workers_[rank]) || IsMember(static_cast<int32_t>(rank))) continue;
    if (!IsComplete() && now - workers_[rank].since < options_.grow_wait) continue;
    return absl::StrCat("worker ", rank, " has come");
  }
  return std::nullopt;
}

bool WorkerGroup::IsComplete() const {
  return std::all_of(workers_.begin(), workers_.end(),
                     [this](const Worker& w) { return IsWell(w); });
}

std::vector<int32_t> WorkerGroup::Unanswered() const {
  std::vector<int32_t> ranks;
  for (size_t r = 0; r < workers_.size(); ++r) {
    const auto rank = static_cast<int32_t>(r);
    const Worker& worker = workers_[rank];
    const bool waits = state_ == State::kForming ? IsMember(rank) && !worker.answered
                                                 : worker.up && worker.owes_formed;
    if (waits) ranks.push_back(rank);
  }
  return ranks;
}

void WorkerGroup::Void(absl::Time now, absl::Duration wait) {
  for (int32_t rank : members_) {
    Worker& worker = workers_[rank];
    if (in_epoch() && worker.up && worker.hello.lease_ms > 0) worker.link->Send(Renew{epoch_});
  }
  const int doublings = std::clamp(num_futile_ - 1, 0, 16);
  const absl::Duration backoff =
      num_futile_ == 0 ? absl::ZeroDuration() : options_.form_backoff_min * (1 << doublings);
  next_form_ = now + std::max(wait, std::min(backoff, options_.form_backoff_max));
  state_ = num_up() > 0 ? State::kDue : State::kNoWorker;
}

void WorkerGroup::FormIfDue(absl::Time now) {
  if (state_ != State::kDue || now < DueTime()) return;
  ChooseMembers();
  Worker& lowest = workers_[members_.front()];
  lacks_rendezvous_ = members_.size() > 1 && lowest.owes_formed;  // the last one is used up
  if (lacks_rendezvous_) return;
  gather_until_ = absl::InfinitePast();
  epoch_ = ++highest_epoch_;
  ++num_futile_;
  state_ = State::kForming;
  form_sent_ = now;
  Form form;
  form.epoch = epoch_;
  form.scheduler_id = options_.scheduler_id;
  form.members = members_;
  placement_ = RoundRobin(facts_->num_experts, static_cast<int32_t>(members_.size()));
  form.placement = placement_;
  if (members_.size() > 1) form.rendezvous = lowest.rendezvous;
  for (int32_t rank : members_) {
    Worker& worker = workers_[rank];
    worker.damped = false;
    worker.answered = false;
    worker.owes_formed = true;
    worker.asked = epoch_;
    worker.advanced = now;
    worker.link->Send(form);
  }
}

void WorkerGroup::RenewIfDue(absl::Time now) {
  if (now - renewed_ < absl::Milliseconds(kLeaseRenewMs)) return;
  renewed_ = now;
  for (Worker& worker : workers_) {
    if (worker.up && worker.hello.lease_ms > 0) worker.link->Send(Renew{});
  }
}

// Where nobody is left, those are asked again who were left out: who came and went too often, then
// the silent, then the held.
void WorkerGroup::ChooseMembers() {
  Doubt least = Doubt::kHeld;
  for (const Worker& worker : workers_) {
    if (worker.up) least = std::min(least, DoubtAbout(worker));
  }
  members_.clear();
  WorkerFacts& cell = *facts_;
  cell.kv_blocks = cell.seq_slots = cell.step_tokens = cell.context_tokens = INT32_MAX;
  for (size_t rank = 0; rank < workers_.size(); ++rank) {
    const Worker& worker = workers_[rank];
    if (!worker.up || DoubtAbout(worker) > least) continue;
    members_.push_back(static_cast<int32_t>(rank));
    cell.kv_blocks = std::min(cell.kv_blocks, worker.hello.facts.kv_blocks);
    cell.seq_slots = std::min(cell.seq_slots, worker.hello.facts.seq_slots);
    cell.step_tokens = std::min(cell.step_tokens, worker.hello.facts.step_tokens);
    cell.context_tokens = std::min(cell.context_tokens, worker.hello.facts.context_tokens);
  }
}

void WorkerGroup::SendToMembers(StepPlan plan) {
  const auto shared = std::make_shared<const StepPlan>(std::move(plan));
  for (int32_t rank : members_) workers_[rank].link->Send(shared);
}

bool WorkerGroup::IsMember(int32_t rank) const {
  return std::find(members_.begin(), members_.end(), rank) != members_.end();
}

int32_t WorkerGroup::num_up() const {
  return static_cast<int32_t>(
      std::count_if(workers_.begin(), workers_.end(), [](const Worker& w) { return w.up; }));
}

absl::Time WorkerGroup::LastHeard() const {
  absl::Time oldest = absl::InfiniteFuture();
  for (int32_t rank : members_) oldest = std::min(oldest, workers_[rank].heard);
  return oldest == absl::InfiniteFuture() ? absl::UnixEpoch() : oldest;
}

}  // namespace pregate::scheduler

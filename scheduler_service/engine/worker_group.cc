#include "scheduler_service/engine/worker_group.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/config/limits.h"

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

absl::Status CheckSizes(const Hello& hello) {
  RETURN_IF_ERROR(CheckRange("kv_blocks", hello.kv_blocks, 1, kKvBlocksMax));
  RETURN_IF_ERROR(CheckRange("seq_slots", hello.seq_slots, 1, kSeqSlotsMax));
  RETURN_IF_ERROR(CheckRange("step_tokens", hello.step_tokens, 1, kStepTokensMax));
  RETURN_IF_ERROR(CheckRange("context_tokens", hello.context_tokens, 2, kContextTokensMax));
  RETURN_IF_ERROR(CheckRange("vocab_size", hello.vocab_size, 1, INT32_MAX));
  RETURN_IF_ERROR(CheckRange("num_layers", hello.num_layers, 0, kLayersMax));
  RETURN_IF_ERROR(CheckRange("residency_slots", hello.residency_slots, 0, kResidentUnitsMax));
  return CheckRange("num_experts", hello.num_experts, 0, kExpertsMax);
}

// Whole experts to ranks, round robin.
Placement RoundRobin(int32_t num_experts, int32_t num_members) {
  Placement placement;
  for (int32_t e = 0; e < num_experts; ++e) placement.ranks.push_back({e % num_members});
  return placement;
}

}  // namespace

WorkerGroup::WorkerGroup(const EngineOptions& options, std::vector<WorkerLink*> links,
                         EngineObserver* observer)
    : options_(options), observer_(observer) {
  for (WorkerLink* link : links) {
    workers_.emplace_back();
    workers_.back().link = link;
  }
}

absl::Status WorkerGroup::CheckHello(int32_t rank, const Hello& hello, const ModelFacts& facts,
                                     bool may_change_model) const {
  RETURN_IF_ERROR(CheckRange("protocol", hello.protocol, kWorkerProtocol, kWorkerProtocol));
  RETURN_IF_ERROR(CheckRange("rank", hello.rank, rank, rank));
  RETURN_IF_ERROR(CheckSizes(hello));
  if (!options_.model_digest.empty()) {
    RETURN_IF_ERROR(CheckSame("model_digest", hello.model_digest, options_.model_digest));
  }
  if (!options_.config_digest.empty()) {
    RETURN_IF_ERROR(CheckSame("config_digest", hello.config_digest, options_.config_digest));
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
  Worker& worker = workers_[rank];
  worker.up = false;
  const ModelFacts facts{hello.model_digest, hello.router_digest, hello.numerics_id,
                         hello.vocab_size, hello.num_experts};
  if (const absl::Status status = CheckHello(rank, hello, facts, may_change_model); !status.ok()) {
    observer_->OnLog(LogLevel::kError,
                     absl::StrCat("worker ", rank, " is refused: ", status.message()));
    if (was_involved) return absl::StrCat("worker ", rank, " came back as another");
    if (state_ == State::kDue && num_up() == 0) state_ = State::kNoWorker;
    return std::nullopt;
  }
  worker.up = true;
  worker.silent = false;
  worker.hello = hello;
  worker.rendezvous = hello.rendezvous;
  worker.heard = now;
  facts_ = facts;
  highest_epoch_ = std::max(highest_epoch_, hello.highest_epoch);
  observer_->OnLog(LogLevel::kInfo,
                   absl::StrCat("worker ", rank, " is up: ", hello.device, ", ", hello.kv_blocks,
                                " KV blocks, ", hello.seq_slots, " slots"));
  if (state_ == State::kForming || state_ == State::kFormed) {
    return absl::StrCat("worker ", rank, " has attached");
  }
  next_form_ = std::max(next_form_, now);  // a worker that comes and goes has to wait
  state_ = State::kDue;
  ChooseMembers();
  return std::nullopt;
}

WorkerGroup::VoidReason WorkerGroup::OnDown(int32_t rank, const std::string& reason) {
  const bool was_involved = Involved(rank);
  workers_[rank].up = false;
  observer_->OnLog(LogLevel::kWarning, absl::StrCat("worker ", rank, " is down: ", reason));
  if (state_ == State::kDue && num_up() == 0) state_ = State::kNoWorker;
  if (was_involved) return absl::StrCat("worker ", rank, " is down");
  return std::nullopt;
}

WorkerGroup::VoidReason WorkerGroup::OnFormed(int32_t rank, const Formed& formed) {
  // A late or unwelcome answer too says that the rendezvous before it is used up.
  workers_[rank].rendezvous = formed.rendezvous;
  if (state_ != State::kForming || formed.epoch != epoch_ || !IsMember(rank)) return std::nullopt;
  if (!formed.status.ok()) {
    return absl::StrCat("worker ", rank, " refuses epoch ", epoch_, ": ", formed.status.message());
  }
  workers_[rank].answered = true;
  const bool all = std::all_of(members_.begin(), members_.end(),
                               [&](int32_t m) { return workers_[m].answered; });
  if (all) state_ = State::kFormed;
  return std::nullopt;
}

WorkerGroup::VoidReason WorkerGroup::OnHeard(int32_t rank, absl::Time now) {
  Worker& worker = workers_[rank];
  worker.heard = now;
  if (!worker.up || !worker.silent) return std::nullopt;
  worker.silent = false;
  if ((state_ != State::kForming && state_ != State::kFormed) || IsMember(rank))
    return std::nullopt;
  return absl::StrCat("worker ", rank, " is heard again");
}

WorkerGroup::VoidReason WorkerGroup::OnTick(absl::Span<const int32_t> owing, absl::Time since,
                                            absl::Time now) {
  VoidReason reason;
  if (state_ == State::kForming && now - form_sent_ >= options_.worker_stall_timeout) {
    for (int32_t rank : members_) {
      if (!workers_[rank].answered) reason = Silence(rank, now);
    }
  }
  if (state_ == State::kFormed) {
    for (int32_t rank : owing) {
      if (now - std::max(since, workers_[rank].advanced) >= options_.worker_stall_timeout)
        reason = Silence(rank, now);
    }
  }
  return reason;
}

WorkerGroup::VoidReason WorkerGroup::Silence(int32_t rank, absl::Time now) {
  workers_[rank].silent = true;
  return absl::StrCat("worker ", rank, " owes an answer; it was last heard ",
                      absl::FormatDuration(now - workers_[rank].heard), " ago");
}

void WorkerGroup::Void(absl::Time now) {
  const int doublings = std::clamp(num_futile_ - 1, 0, 16);
  const absl::Duration backoff =
      num_futile_ == 0 ? absl::ZeroDuration() : options_.form_backoff_min * (1 << doublings);
  next_form_ = now + std::min(backoff, options_.form_backoff_max);
  state_ = num_up() > 0 ? State::kDue : State::kNoWorker;
}

void WorkerGroup::FormIfDue(absl::Time now) {
  if (state_ != State::kDue || now < next_form_) return;
  ChooseMembers();
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
  if (members_.size() > 1) form.rendezvous = workers_[members_.front()].rendezvous;
  for (int32_t rank : members_) {
    workers_[rank].answered = false;
    workers_[rank].link->Send(form);
  }
}

void WorkerGroup::ChooseMembers() {
  const bool all_silent = std::all_of(workers_.begin(), workers_.end(),
                                      [](const Worker& w) { return !w.up || w.silent; });
  members_.clear();
  limits_ = {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX};
  for (size_t rank = 0; rank < workers_.size(); ++rank) {
    const Worker& worker = workers_[rank];
    if (!worker.up || (worker.silent && !all_silent)) continue;
    members_.push_back(static_cast<int32_t>(rank));
    limits_.kv_blocks = std::min(limits_.kv_blocks, worker.hello.kv_blocks);
    limits_.seq_slots = std::min(limits_.seq_slots, worker.hello.seq_slots);
    limits_.step_tokens = std::min(limits_.step_tokens, worker.hello.step_tokens);
    limits_.context_tokens = std::min(limits_.context_tokens, worker.hello.context_tokens);
  }
}

void WorkerGroup::SendToMembers(const StepPlan& plan) {
  for (int32_t rank : members_) workers_[rank].link->Send(plan);
}

bool WorkerGroup::IsMember(int32_t rank) const {
  return std::find(members_.begin(), members_.end(), rank) != members_.end();
}

bool WorkerGroup::Involved(int32_t rank) const {
  return (state_ == State::kForming || state_ == State::kFormed) && IsMember(rank);
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

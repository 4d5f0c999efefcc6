#include "expert_service/engine/worker.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "expert_service/core/plan_check.h"
#include "expert_service/engine/watched_collective.h"

namespace pregate {
namespace {

absl::Status CheckMembers(const std::vector<int32_t>& members, int32_t rank) {
  for (size_t i = 1; i < members.size(); ++i) {
    if (members[i] > members[i - 1]) continue;
    return absl::InvalidArgumentError(absl::StrCat("members[", i, "] is ", members[i], " after ",
                                                   members[i - 1], ", must ascend"));
  }
  if (std::find(members.begin(), members.end(), rank) != members.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("members does not name rank ", rank));
}

// Whatever a join has failed by, a peer or the network between may be the cause.
absl::Status PeersFault(const absl::Status& status) {
  return absl::IsAborted(status) ? status : absl::UnavailableError(status.message());
}

bool EndsWorker(const absl::Status& reading) {
  return !reading.ok() && !absl::IsAborted(reading) && !absl::IsResourceExhausted(reading);
}

absl::Status CheckPlacement(const Placement& placement, int32_t num_members) {
  for (size_t e = 0; e < placement.ranks.size(); ++e) {
    if (placement.ranks[e].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("placement of expert ", e, " is empty"));
    }
    for (int32_t index : placement.ranks[e]) {
      if (index >= 0 && index < num_members) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("placement of expert ", e, " is member ", index, " of ", num_members));
    }
  }
  return absl::OkStatus();
}

}  // namespace

Worker::Worker(WorkerOptions options, std::unique_ptr<StepExecutor> executor, Clock* clock,
               const Log* log, CollectiveFactory* collectives)
    : options_(std::move(options)),
      executor_(std::move(executor)),
      clock_(clock),
      log_(log),
      collectives_(collectives),
      links_(options_.lease,
             {.check_form = [this](const Form& form) { return CheckForm(form); },
              .make_rendezvous = [this] { return MakeRendezvous(); }},
             clock, log) {
  Touch();
  PublishResidency();
  links_.SetHello(MakeHello());
}

void Worker::Handle(LinkId link, ToWorker message, std::stop_token epoch) {
  Touch();
  if (const auto* form = std::get_if<Form>(&message)) HandleForm(link, *form, std::move(epoch));
  if (const auto* plan = std::get_if<StepPlan>(&message)) HandlePlan(link, *plan);
  if (const auto* drain = std::get_if<Drain>(&message)) HandleDrain(*drain);
  Touch();
}

void Worker::Heartbeat() {
  Touch();
  std::vector<UnitEvent> events = executor_->Tick();
  PublishResidency();
  if (!events.empty()) links_.SetHello(MakeHello());
  if (epoch_ == 0) return;
  if (!events.empty()) links_.SendTo(owner_, UnitEvents{epoch_, std::move(events)});
  SendProgress(last_step_);
}

absl::Status Worker::CheckForm(const Form& form) const {
  if (draining_) return absl::FailedPreconditionError("the worker drains");
  if (form.members.size() > 1 && collectives_ == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("members has ", form.members.size(), " ranks, this worker runs alone"));
  }
  RETURN_IF_ERROR(CheckMembers(form.members, options_.rank));
  const int32_t num_experts = executor_->limits().num_experts;
  if (form.placement.ranks.size() != static_cast<size_t>(num_experts)) {
    return absl::InvalidArgumentError(absl::StrCat("placement names ", form.placement.ranks.size(),
                                                   " experts, the model has ", num_experts));
  }
  return CheckPlacement(form.placement, static_cast<int32_t>(form.members.size()));
}

// What has ended before its turn is not begun: a worker that was busy for long does not work off
// the Forms of that time one by one.
void Worker::HandleForm(LinkId link, const Form& form, std::stop_token epoch) {
  absl::Status status = absl::AbortedError(
      absl::StrCat("epoch ", form.epoch, " had ended before this worker came to it"));
  if (!epoch.stop_requested()) {
    owner_ = link;
    epoch_ = form.epoch;
    epoch_ended_ = std::move(epoch);
    last_step_ = 0;
    status = EnterEpoch(form);
    void_reason_ = status;
    PublishResidency();
    links_.SetHello(MakeHello());
  }
  log_->Info("formed", {{"epoch", form.epoch},
                        {"scheduler", form.scheduler_id},
                        {"members", form.members.size()},
                        {"status", status.ok() ? "ok" : std::string(status.message())}});
  links_.SendTo(link, Formed{form.epoch, status, MakeRendezvous()});
  if (broken_.ok() || std::exchange(broken_told_, true)) return;
  log_->Error("this worker cannot serve", {{"reason", std::string(broken_.message())}});
  if (options_.on_broken) options_.on_broken(broken_);
}

// Until the executor has formed the new epoch no plan runs, so nothing calls the old collective.
absl::Status Worker::EnterEpoch(const Form& form) {
  abort_.reset();
  collective_ = nullptr;
  if (form.members.size() > 1 || options_.exchange_alone) {
    absl::StatusOr<std::unique_ptr<Collective>> joined = Join(form);
    if (!joined.ok()) return PeersFault(joined.status());
    collective_ = std::make_unique<WatchedCollective>(*std::move(joined), &waits_for_peers_);
    abort_.emplace(epoch_ended_, [group = collective_.get()] { group->Abort(); });
  }
  // Experts that were another rank's are read now, which may take minutes.
  const absl::Status status = executor_->Form(form.members, form.placement, collective_.get(),
                                              [this](int, int) { return OnProgress(0); });
  if (EndsWorker(status)) broken_ = status;
  return status;
}

absl::StatusOr<std::unique_ptr<Collective>> Worker::Join(const Form& form) {
  SendProgress(0);
  const bool alone = form.members.size() == 1;
  const auto self = std::find(form.members.begin(), form.members.end(), options_.rank);
  const PeerWait wait(&waits_for_peers_);
  return collectives_->Join(
      alone ? MakeRendezvous() : form.rendezvous, static_cast<int>(self - form.members.begin()),
      static_cast<int>(form.members.size()), options_.join_timeout, epoch_ended_);
}

std::string Worker::MakeRendezvous() const {
  if (collectives_ == nullptr) return "";
  absl::StatusOr<std::string> rendezvous = collectives_->MakeRendezvous();
  if (rendezvous.ok()) return *std::move(rendezvous);
  log_->Warn("no rendezvous", {{"reason", std::string(rendezvous.status().message())}});
  return "";
}

void Worker::HandlePlan(LinkId link, const StepPlan& plan) {
  if (plan.epoch != epoch_ || link != owner_) {
    log_->Warn("stale plan dropped", {{"plan_epoch", plan.epoch},
                                      {"epoch", epoch_},
                                      {"step", plan.step_id},
                                      {"from_owner", link == owner_}});
    return;
  }
  SendProgress(plan.step_id);
  StepResult result = RunStep(plan);
  PublishResidency();
  if (!result.unit_events.empty()) links_.SetHello(MakeHello());
  result.incarnation = options_.incarnation;
  if (!result.status.ok() && void_reason_.ok()) {
    void_reason_ = result.status;
    log_->Warn("epoch is void", {{"epoch", epoch_},
                                 {"step", plan.step_id},
                                 {"reason", std::string(result.status.message())}});
  }
  links_.SendTo(owner_, std::move(result));
}

StepResult Worker::RunStep(const StepPlan& plan) {
  StepResult refused;
  refused.epoch = plan.epoch;
  refused.rank = options_.rank;
  refused.step_id = plan.step_id;
  refused.status = void_reason_.ok() ? CheckStepOrder(plan, epoch_, last_step_) : void_reason_;
  if (!refused.status.ok()) return refused;
  last_step_ = plan.step_id;
  return executor_->Run(plan, [&] { return OnProgress(plan.step_id); });
}

bool Worker::OnProgress(StepId step_id) {
  Touch();
  if (clock_->Now() - progress_sent_ >= options_.progress_period) SendProgress(step_id);
  return !epoch_ended_.stop_requested();
}

void Worker::HandleDrain(const Drain& drain) {
  if (drain.epoch != epoch_) {
    log_->Warn("stale drain dropped", {{"drain_epoch", drain.epoch}, {"epoch", epoch_}});
    return;
  }
  draining_ = true;
  log_->Info("draining", {{"epoch", epoch_}});
}

void Worker::SendProgress(StepId step_id) {
  progress_sent_ = clock_->Now();
  links_.SendTo(owner_, Progress{epoch_, step_id});
}

void Worker::PublishResidency() {
  const ResidencyStats residency = executor_->residency();
  std::lock_guard lock(residency_mutex_);
  residency_ = residency;
}

ResidencyStats Worker::residency() const {
  std::lock_guard lock(residency_mutex_);
  return residency_;
}

void Worker::Touch() { last_progress_ns_.store(absl::ToUnixNanos(clock_->Now())); }

absl::Time Worker::last_progress() const { return absl::FromUnixNanos(last_progress_ns_.load()); }

Hello Worker::MakeHello() const {
  const StepLimits& limits = executor_->limits();
  Hello hello;
  hello.incarnation = options_.incarnation;
  hello.rank = options_.rank;
  hello.model_digest = executor_->model_digest();
  hello.router_digest = executor_->router_digest();
  hello.config_digest = options_.config_digest;
  hello.numerics_id = executor_->numerics_id();
  hello.device = executor_->device_name();
  hello.kv_blocks = limits.kv_blocks;
  hello.seq_slots = limits.seq_slots;
  hello.step_tokens = limits.step_tokens;
  hello.context_tokens = limits.context_tokens;
  hello.vocab_size = limits.vocab_size;
  hello.num_experts = limits.num_experts;
  hello.num_layers = limits.num_experts > 0 ? limits.num_layers : 0;
  hello.residency_bytes = executor_->memory().expert_bytes;
  hello.residency_slots = executor_->memory().unit_slots;
  hello.resident_units = executor_->ResidentUnits();
  return hello;
}

}  // namespace pregate

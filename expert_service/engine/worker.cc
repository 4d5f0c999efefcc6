#include "expert_service/engine/worker.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/config/limits.h"
#include "expert_service/core/plan_check.h"

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
      collectives_(collectives) {
  Touch();
  PublishResidency();
}

void Worker::Attach(LinkId link, Send send) {
  send(MakeHello());
  links_[link] = std::move(send);
  log_->Info("link attached", {{"link", link}});
}

void Worker::Detach(LinkId link) {
  links_.erase(link);
  log_->Info("link lost", {{"link", link}, {"owned_epoch", link == owner_}});
}

void Worker::Handle(LinkId link, ToWorker message) {
  Touch();
  if (const auto* form = std::get_if<Form>(&message)) HandleForm(link, *form);
  if (const auto* plan = std::get_if<StepPlan>(&message)) HandlePlan(link, *plan);
  if (const auto* drain = std::get_if<Drain>(&message)) HandleDrain(*drain);
  Touch();
}

void Worker::Heartbeat() {
  Touch();
  std::vector<UnitEvent> events = executor_->Tick();
  PublishResidency();
  if (epoch_ == 0) return;
  if (!events.empty()) SendToOwner(UnitEvents{epoch_, std::move(events)});
  SendProgress(last_step_);
}

absl::Status Worker::CheckForm(const Form& form) const {
  if (draining_) return absl::FailedPreconditionError("the worker drains");
  if (form.epoch <= epoch_) {
    return absl::FailedPreconditionError(absl::StrCat("epoch ", form.epoch, " is not above ",
                                                      epoch_, ", which scheduler '", scheduler_id_,
                                                      "' formed"));
  }
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

void Worker::HandleForm(LinkId link, const Form& form) {
  const auto found = links_.find(link);
  if (found == links_.end()) return;
  absl::Status status = CheckForm(form);
  if (status.ok()) {
    epoch_ = form.epoch;
    scheduler_id_ = form.scheduler_id;
    owner_ = link;
    last_step_ = 0;
    status = EnterEpoch(form);
    PublishResidency();
    void_reason_ = status;
    log_->Info("formed", {{"epoch", epoch_},
                          {"scheduler", scheduler_id_},
                          {"members", form.members.size()},
                          {"status", status.ok() ? "ok" : std::string(status.message())}});
  } else {
    log_->Warn("form refused", {{"epoch", form.epoch}, {"reason", std::string(status.message())}});
  }
  Epoch handled = form.epoch;
  awaited_epoch_.compare_exchange_strong(handled, 0);  // a refused one must not stop later steps
  found->second(Formed{form.epoch, status, MakeRendezvous()});
}

absl::Status Worker::EnterEpoch(const Form& form) {
  SetCollective(form.epoch, nullptr);
  std::shared_ptr<Collective> collective;
  const bool alone = form.members.size() == 1;
  if (!alone || options_.exchange_alone) {
    const auto self = std::find(form.members.begin(), form.members.end(), options_.rank);
    ASSIGN_OR_RETURN(collective, collectives_->Join(alone ? MakeRendezvous() : form.rendezvous,
                                                    static_cast<int>(self - form.members.begin()),
                                                    static_cast<int>(form.members.size()),
                                                    options_.join_timeout));
    SetCollective(form.epoch, collective);
  }
  Touch();
  // Reading experts that were another rank's may take longer than a liveness probe waits.
  return executor_->Form(form.members, form.placement, collective.get(),
                         [this](int, int) { Touch(); });
}

std::string Worker::MakeRendezvous() const {
  if (collectives_ == nullptr) return "";
  absl::StatusOr<std::string> rendezvous = collectives_->MakeRendezvous();
  if (rendezvous.ok()) return *std::move(rendezvous);
  log_->Warn("no rendezvous", {{"reason", std::string(rendezvous.status().message())}});
  return "";
}

// Drops the old one: until the executor has formed the new epoch no plan runs, so nothing calls it.
void Worker::SetCollective(Epoch epoch, std::shared_ptr<Collective> collective) {
  std::lock_guard lock(collective_mutex_);
  collective_epoch_ = epoch;
  collective_.swap(collective);
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
  result.incarnation = options_.incarnation;
  if (!result.status.ok() && void_reason_.ok()) {
    void_reason_ = result.status;
    log_->Warn("epoch is void", {{"epoch", epoch_},
                                 {"step", plan.step_id},
                                 {"reason", std::string(result.status.message())}});
  }
  SendToOwner(std::move(result));
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
  return awaited_epoch_.load(std::memory_order_relaxed) <= epoch_;
}

void Worker::HandleDrain(const Drain& drain) {
  if (drain.epoch != epoch_) {
    log_->Warn("stale drain dropped", {{"drain_epoch", drain.epoch}, {"epoch", epoch_}});
    return;
  }
  draining_ = true;
  log_->Info("draining", {{"epoch", epoch_}});
}

void Worker::InterruptBefore(Epoch epoch) {
  Epoch seen = awaited_epoch_.load();
  while (seen < epoch && !awaited_epoch_.compare_exchange_weak(seen, epoch)) {
  }
  std::lock_guard lock(collective_mutex_);
  if (collective_ != nullptr && epoch > collective_epoch_) collective_->Abort();
}

void Worker::SendProgress(StepId step_id) {
  progress_sent_ = clock_->Now();
  SendToOwner(Progress{epoch_, step_id});
}

void Worker::SendToOwner(FromWorker message) {
  const auto found = links_.find(owner_);
  if (found != links_.end()) found->second(std::move(message));
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
  hello.highest_epoch = epoch_;
  hello.rendezvous = MakeRendezvous();
  return hello;
}

WorkerLoop::WorkerLoop(std::unique_ptr<Worker> worker)
    : worker_(std::move(worker)), mailbox_(kWorkerInboxMessages), thread_([this] { Run(); }) {}

WorkerLoop::~WorkerLoop() { Stop(); }

LinkId WorkerLoop::Attach(Worker::Send send) {
  const LinkId link = next_link_++;
  return mailbox_.Push(Attached{link, std::move(send)}) ? link : 0;
}

bool WorkerLoop::Submit(LinkId link, ToWorker message) {
  const auto* form = std::get_if<Form>(&message);
  const Epoch epoch = form != nullptr ? form->epoch : 0;
  worker_->InterruptBefore(epoch);  // first: once handled, a Form must not stop later steps
  return mailbox_.Push(Received{link, std::move(message)});
}

void WorkerLoop::Disconnected(LinkId link) { mailbox_.Push(Detached{link}); }

void WorkerLoop::Stop() {
  mailbox_.Close();
  worker_->InterruptBefore(std::numeric_limits<Epoch>::max());
  std::lock_guard lock(stop_mutex_);
  if (thread_.joinable()) thread_.join();
}

void WorkerLoop::Run() {
  while (!mailbox_.closed()) {
    std::vector<Event> events = mailbox_.Wait(worker_->heartbeat_period());
    if (events.empty()) worker_->Heartbeat();
    for (Event& event : events) {
      if (auto* attached = std::get_if<Attached>(&event))
        worker_->Attach(attached->link, std::move(attached->send));
      if (auto* received = std::get_if<Received>(&event)) {
        worker_->Handle(received->link, std::move(received->message));
      }
      if (auto* detached = std::get_if<Detached>(&event)) worker_->Detach(detached->link);
    }
  }
}

}  // namespace pregate

#include "expert_service/engine/worker_engine.h"

#include <algorithm>
#include <utility>

#include "common/base/limits.h"
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

WorkerEngine::WorkerEngine(WorkerEngineOptions options, std::unique_ptr<StepExecutor> executor,
                           Clock* clock, CollectiveFactory* collectives, WorkerObserver* observer)
    : options_(std::move(options)),
      executor_(std::move(executor)),
      clock_(clock),
      collectives_(collectives),
      observer_(observer),
      links_(options_.lease,
             {.check_form = [this](const Form& form) { return CheckForm(form); },
              .make_rendezvous = [this] { return MakeRendezvous(); }},
             clock, observer),
      traced_(options_.rank, [observer](const TracedWork& work) { observer->OnTraced(work); }),
      mailbox_(kWorkerInboxMessages),
      alive_end_(1) {
  Touch();
  links_.SetHello(MakeHello());
  PublishResidency();
}

WorkerEngine::~WorkerEngine() { Stop(); }

void WorkerEngine::Start() {
  thread_ = std::thread([this] { Run(); });
  alive_thread_ = std::thread([this] { SayAlive(); });
}

void WorkerEngine::Stop() {
  mailbox_.Close();
  alive_end_.Close();
  links_.Close();
  std::lock_guard lock(stop_mutex_);
  if (thread_.joinable()) thread_.join();
  if (alive_thread_.joinable()) alive_thread_.join();
}

LinkId WorkerEngine::Attach(Send send) {
  if (mailbox_.closed()) return 0;
  const LinkId link = next_link_++;
  links_.Attach(link, std::move(send));
  return link;
}

bool WorkerEngine::Submit(LinkId link, ToWorker message) {
  if (mailbox_.closed()) return false;
  std::optional<std::stop_token> epoch = links_.Arrive(link, message);
  return !epoch || mailbox_.Push({link, std::move(message), *std::move(epoch)});
}

void WorkerEngine::Run() {
  while (!mailbox_.closed()) {
    std::vector<Received> messages = mailbox_.Wait(options_.heartbeat_period);
    if (messages.empty()) Heartbeat();
    for (Received& m : messages) Handle(m.link, std::move(m.message), std::move(m.epoch));
  }
}

void WorkerEngine::SayAlive() {
  while (!alive_end_.closed()) {
    alive_end_.Wait(absl::Milliseconds(kWorkerAliveMs));
    SendAlive();
  }
}

void WorkerEngine::Handle(LinkId link, ToWorker message, std::stop_token epoch) {
  Touch();
  if (const auto* form = std::get_if<Form>(&message)) HandleForm(link, *form, std::move(epoch));
  if (const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message)) {
    HandlePlan(link, **plan);
  }
  Touch();
}

void WorkerEngine::Heartbeat() {
  Touch();
  std::vector<UnitEvent> events = executor_->Tick();
  PublishResidency();
  if (epoch_ == 0) return;
  if (!events.empty()) links_.SendTo(owner_, UnitEvents{epoch_, std::move(events)});
  SendProgress(last_step_);
}

absl::Status WorkerEngine::CheckForm(const Form& form) const {
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
void WorkerEngine::HandleForm(LinkId link, const Form& form, std::stop_token epoch) {
  absl::Status status = absl::AbortedError(
      absl::StrCat("epoch ", form.epoch, " had ended before this worker came to it"));
  if (!epoch.stop_requested()) {
    owner_ = link;
    epoch_ = form.epoch;
    epoch_ended_ = std::move(epoch);
    last_step_ = 0;
    if (kv_since_ == 0 || kv_owner_ != form.scheduler_id) {
      kv_owner_ = form.scheduler_id;
      kv_since_ = form.epoch;
    }
    status = EnterEpoch(form);
    void_reason_ = status;
    PublishResidency();
  }
  observer_->OnLog(LogLevel::kInfo, "formed",
                   {{"epoch", form.epoch},
                    {"scheduler", form.scheduler_id},
                    {"members", form.members.size()},
                    {"status", status.ok() ? "ok" : std::string(status.message())}});
  links_.SendTo(link, Formed{form.epoch, status, MakeRendezvous(), kv_since_});
  TellBroken();
}

void WorkerEngine::TellBroken() {
  if (broken_.ok() || std::exchange(broken_told_, true)) return;
  observer_->OnLog(LogLevel::kError, "this worker cannot serve",
                   {{"reason", std::string(broken_.message())}});
  if (options_.on_broken) options_.on_broken(broken_);
}

// Until the executor has formed the new epoch no plan runs, so nothing calls the old collective.
absl::Status WorkerEngine::EnterEpoch(const Form& form) {
  traced_.OnEpoch();
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

absl::StatusOr<std::unique_ptr<Collective>> WorkerEngine::Join(const Form& form) {
  SendProgress(0);
  const bool alone = form.members.size() == 1;
  const auto self = std::find(form.members.begin(), form.members.end(), options_.rank);
  const PeerWait wait(&waits_for_peers_);
  return collectives_->Join(
      alone ? MakeRendezvous() : form.rendezvous, static_cast<int>(self - form.members.begin()),
      static_cast<int>(form.members.size()), options_.join_timeout, epoch_ended_);
}

std::string WorkerEngine::MakeRendezvous() const {
  if (collectives_ == nullptr) return "";
  absl::StatusOr<std::string> rendezvous = collectives_->MakeRendezvous();
  if (rendezvous.ok()) return *std::move(rendezvous);
  observer_->OnLog(LogLevel::kWarning, "no rendezvous",
                   {{"reason", std::string(rendezvous.status().message())}});
  return "";
}

void WorkerEngine::HandlePlan(LinkId link, const StepPlan& plan) {
  if (plan.epoch != epoch_ || link != owner_) {
    observer_->OnLog(LogLevel::kWarning, "stale plan dropped",
                     {{"plan_epoch", plan.epoch},
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
    observer_->OnLog(LogLevel::kWarning, "epoch is void",
                     {{"epoch", epoch_},
                      {"step", plan.step_id},
                      {"reason", std::string(result.status.message())}});
  }
  observer_->OnStep(result, executor_->times());
  if (absl::IsDataLoss(result.status)) broken_ = result.status;
  links_.SendTo(owner_, std::move(result));
  TellBroken();
}

StepResult WorkerEngine::RunStep(const StepPlan& plan) {
  StepResult refused;
  refused.epoch = plan.epoch;
  refused.rank = options_.rank;
  refused.step_id = plan.step_id;
  refused.status = void_reason_.ok() ? CheckStepOrder(plan, epoch_, last_step_) : void_reason_;
  if (!refused.status.ok()) return refused;
  last_step_ = plan.step_id;
  traced_.OnPlan(plan, clock_->Now());
  StepResult result = executor_->Run(plan, [&] { return OnProgress(plan.step_id); });
  traced_.OnStep(plan, clock_->Now());
  return result;
}

bool WorkerEngine::OnProgress(StepId step_id) {
  Touch();
  if (clock_->Now() - progress_sent_ >= options_.progress_period) SendProgress(step_id);
  return !epoch_ended_.stop_requested();
}

void WorkerEngine::SendProgress(StepId step_id) {
  progress_sent_ = clock_->Now();
  links_.SendTo(owner_, Progress{epoch_, step_id});
}

void WorkerEngine::PublishResidency() {
  const ResidencyStats now = executor_->residency();
  if (now == residency_) return;
  residency_ = now;
  links_.SetHello(MakeHello());
  observer_->OnResidency(now);
}

void WorkerEngine::Touch() { last_progress_ns_.store(absl::ToUnixNanos(clock_->Now())); }

absl::Time WorkerEngine::last_progress() const {
  return absl::FromUnixNanos(last_progress_ns_.load());
}

Hello WorkerEngine::MakeHello() const {
  const StepLimits& limits = executor_->limits();
  Hello hello;
  hello.incarnation = options_.incarnation;
  hello.rank = options_.rank;
  hello.facts = {.model_digest = executor_->model_digest(),
                 .router_digest = executor_->router_digest(),
                 .numerics_id = executor_->numerics_id(),
                 .vocab_size = limits.vocab_size,
                 .num_experts = limits.num_experts,
                 .kv_blocks = limits.kv_blocks,
                 .seq_slots = limits.seq_slots,
                 .step_tokens = limits.step_tokens,
                 .context_tokens = limits.context_tokens,
                 .device = executor_->device_name(),
                 .num_layers = limits.num_experts > 0 ? limits.num_layers : 0,
                 .unit_slots = executor_->memory().unit_slots};
  hello.resident_units = executor_->ResidentUnits();
  return hello;
}

}  // namespace pregate

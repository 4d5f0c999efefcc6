#include "gateway_service/edge/scheduler_pool.h"

#include <algorithm>
#include <atomic>

#include "absl/time/clock.h"
#include "common/base/gateway_limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "gateway_service/core/scheduler_choice.h"
#include "grpc/health/v1/health.grpc.pb.h"

namespace pregate::gateway {

using grpc::health::v1::Health;

struct SchedulerPool::Scheduler {
  Scheduler(std::string address, const std::vector<std::shared_ptr<grpc::Channel>>& channels)
      : name(std::move(address)),
        health(Health::NewStub(channels.back())),  // where calls come last
        names(channels.front()) {
    for (const auto& channel : channels) stubs.push_back(v1::Inference::NewStub(channel));
    calls_on.resize(stubs.size());
  }

  // The first connection that is not full, or the one with the fewest calls: what streams of one connection
  // say is read and sent together, so few connections cost less than many.
  size_t ChooseChannel() const {
    for (size_t i = 0; i < calls_on.size(); ++i) {
      if (calls_on[i] < kCallsPerChannel) return i;
    }
    return std::min_element(calls_on.begin(), calls_on.end()) - calls_on.begin();
  }

  const std::string name;
  std::vector<std::unique_ptr<v1::Inference::Stub>> stubs;  // by channel
  const std::unique_ptr<Health::Stub> health;
  NameRefresh names;  // one probe at a time touches it
  // Under the pool's lock.
  bool probing = false, ready = false;
  int late_probes = 0;  // in a row
  ModelCard model;
  int64_t outstanding = 0;
  std::vector<int64_t> calls_on;  // of them, by channel
};

// Asks one scheduler whether it is ready and, where that is news, what it serves. Deletes itself.
struct SchedulerPool::Probe {
  SchedulerPool* const pool;
  Scheduler* const scheduler;
  const bool asks_model;
  grpc::ClientContext health_context, model_context;
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse health;
  v1::GetModelInfoRequest model_request;
  v1::GetModelInfoResponse model;
  bool is_late = false;  // its time was up

  void Begin() {
    SetDeadline(&health_context);
    scheduler->health->async()->Check(&health_context, &request, &health,
                                      [this](const grpc::Status& status) { OnHealth(status); });
  }

 private:
  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(
        absl::ToChronoTime(absl::Now() + absl::Milliseconds(kSchedulerProbeTimeoutMs)));
  }
  void OnHealth(const grpc::Status& status) {
    const bool ready =
        status.ok() && health.status() == grpc::health::v1::HealthCheckResponse::SERVING;
    is_late = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (!ready || !asks_model) return End(ready, nullptr);
    SetDeadline(&model_context);
    scheduler->stubs.back()->async()->GetModelInfo(
        &model_context, &model_request, &model,
        [this](const grpc::Status& s) { End(s.ok(), s.ok() ? &model : nullptr); });
  }
  void End(bool ready, const v1::GetModelInfoResponse* info) {
    pool->OnProbed(scheduler, ready, is_late, info);
    delete this;
  }
};

SchedulerPool::SchedulerPool(std::vector<Target> targets, OnStates on_states, const Log* log)
    : on_states_(std::move(on_states)), log_(log) {
  for (Target& target : targets) {
    schedulers_.push_back(std::make_unique<Scheduler>(std::move(target.name), target.channels));
  }
  prober_ = std::thread([this] {
    do {
      ProbeAll();
      on_states_(states());
    } while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(kSchedulerProbeMs)));
  });
}

SchedulerPool::~SchedulerPool() {
  stop_.Notify();
  prober_.join();
  CancelAll();
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](int* probes) { return *probes == 0; }, &num_probes_));
}

void SchedulerPool::ProbeAll() {
  std::vector<Probe*> probes;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& scheduler : schedulers_) {
      if (std::exchange(scheduler->probing, true)) continue;
      ++num_probes_;
      probes.push_back(new Probe{this, scheduler.get(), !scheduler->ready});
    }
  }
  for (Probe* const probe : probes) probe->Begin();
}

void SchedulerPool::OnProbed(Scheduler* scheduler, bool ready, bool is_late,
                             const v1::GetModelInfoResponse* model) {
  if (!ready) scheduler->names.Refresh();
  absl::MutexLock lock(&mutex_);
  scheduler->probing = false;
  --num_probes_;
  // Who has much to do answers late.
  scheduler->late_probes = is_late ? scheduler->late_probes + 1 : 0;
  if (is_late && scheduler->late_probes <= kSchedulerLateProbesMax) return;
  if (model != nullptr) {
    scheduler->model = {.name = model->model(),
                        .digest = model->model_digest(),
                        .context_tokens = model->context_tokens(),
                        .num_experts = model->num_experts()};
    if (model->has_tool_format()) {
      const v1::ToolFormat& format = model->tool_format();
      scheduler->model.tool_format = ToolFormat{.name = format.name(),
                                                .begin = format.begin(),
                                                .end = format.end(),
                                                .is_list = format.is_list()};
    }
  }
  if (std::exchange(scheduler->ready, ready) == ready) return;
  log_->Info(ready ? "scheduler is ready" : "scheduler is not ready",
             {{"scheduler", scheduler->name}, {"model", scheduler->model.name}});
}

bool SchedulerPool::ready() const {
  absl::MutexLock lock(&mutex_);
  return std::any_of(schedulers_.begin(), schedulers_.end(),
                     [](const auto& scheduler) { return scheduler->ready; });
}

std::vector<ModelCard> SchedulerPool::models() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ModelCard> models;
  for (const auto& scheduler : schedulers_) {
    const auto is_same = [&](const ModelCard& m) { return m.name == scheduler->model.name; };
    if (scheduler->model.name.empty() || std::any_of(models.begin(), models.end(), is_same))
      continue;
    models.push_back(scheduler->model);
  }
  return models;
}

std::vector<SchedulerPool::State> SchedulerPool::states() const {
  absl::MutexLock lock(&mutex_);
  std::vector<State> states;
  for (const auto& s : schedulers_) states.push_back({s->name, s->ready, s->outstanding});
  return states;
}

SchedulerPool::Lease SchedulerPool::Acquire(const std::string& model,
                                            const absl::flat_hash_set<Scheduler*>& tried) {
  absl::MutexLock lock(&mutex_);
  std::vector<SchedulerLoad> loads;
  for (const auto& s : schedulers_) {
    loads.push_back({.ready = s->ready,
                     .tried = tried.contains(s.get()),
                     .model = s->model.name,
                     .outstanding = s->outstanding});
  }
  const int chosen = ChooseScheduler(loads, model, turn_++);
  if (chosen < 0) return {};
  Scheduler* const scheduler = schedulers_[chosen].get();
  const size_t channel = scheduler->ChooseChannel();
  ++scheduler->outstanding;
  ++scheduler->calls_on[channel];
  return {scheduler, channel, scheduler->stubs[channel].get()};
}

void SchedulerPool::Release(const Lease& lease) {
  absl::MutexLock lock(&mutex_);
  --lease.scheduler->outstanding;
  --lease.scheduler->calls_on[lease.channel];
}

std::shared_ptr<GenerateCall> SchedulerPool::Prepare(GenerateJob job,
                                                     std::shared_ptr<GenerateListener> listener) {
  auto call = std::make_shared<GenerateCall>(this, std::move(job), std::move(listener));
  {
    absl::MutexLock lock(&mutex_);
    calls_.insert(call);
  }
  return call;
}

void SchedulerPool::Forget(const std::shared_ptr<GenerateCall>& call) {
  absl::MutexLock lock(&mutex_);
  calls_.erase(call);
}

void SchedulerPool::AskClusters(ClusterQuery::Done done) {
  std::vector<ClusterQuery::Asked> asked;
  for (const auto& scheduler : schedulers_) {
    asked.push_back({scheduler->name, scheduler->stubs.front().get()});
  }
  const auto forget = [this](const std::shared_ptr<ClusterQuery>& query) {
    absl::MutexLock lock(&mutex_);
    queries_.erase(query);
  };
  const auto query = std::make_shared<ClusterQuery>(std::move(asked), std::move(done), forget);
  {
    absl::MutexLock lock(&mutex_);
    queries_.insert(query);
  }
  query->Begin();
}

void SchedulerPool::CancelAll() {
  std::vector<std::shared_ptr<GenerateCall>> calls;
  std::vector<std::shared_ptr<ClusterQuery>> queries;
  {
    absl::MutexLock lock(&mutex_);
    calls.assign(calls_.begin(), calls_.end());
    queries.assign(queries_.begin(), queries_.end());
  }
  for (const auto& call : calls) call->Cancel();
  for (const auto& query : queries) query->Cancel();
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(
      +[](SchedulerPool* pool) {
        pool->mutex_.AssertHeld();
        return pool->calls_.empty() && pool->queries_.empty();
      },
      this));
}

}  // namespace pregate::gateway

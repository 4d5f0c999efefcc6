// Virtual time around the production engine: links with latency, workers and a router that fail on
// schedule. One agenda orders everything by (time, order of planning), so that a run is a function
// of its seed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "scheduler_service/core/random_source.h"
#include "scheduler_service/engine/links.h"
#include "sim/agenda.h"
#include "sim/testing/fake_router.h"
#include "sim/testing/fake_worker.h"

namespace pregate::scheduler {

class SimWorld final : public Inbox {
 public:
  SimWorld(uint64_t seed, const FakeModel& model, std::vector<FakeWorkerConfig> workers);

  std::vector<EngineEvent> Wait(absl::Time deadline) override;
  void At(absl::Time time, std::function<void()> action) { agenda_.At(time, std::move(action)); }
  void After(absl::Duration delay, std::function<void()> action) {
    agenda_.After(delay, std::move(action));
  }
  void Deliver(EngineEvent event) { agenda_.Deliver(std::move(event)); }
  // Runs what is still planned, until `end`.
  void RunOut(absl::Time end);

  // Faults. A process that dies loses its state and what is under way to it and from it; a link that
  // breaks loses the latter alone.
  void StartWorker(int rank);
  void KillWorker(int rank, absl::Duration down_for);
  void BreakWorkerLink(int rank, absl::Duration down_for);
  void FreezeWorker(int rank, absl::Duration duration);
  // Its messages take up to `delay` longer, either way.
  void SlowWorkerLink(int rank, absl::Duration delay, absl::Duration duration);
  void LosePlan(int rank) { ends_[rank].lose_plans++; }
  void RepeatOldResult(int rank);
  // The next result is changed on its way.
  void CorruptResult(int rank, std::function<void(StepResult*)> change) {
    ends_[rank].corrupt = std::move(change);
  }
  void StartRouter();
  void KillRouter(absl::Duration down_for);
  void BreakRouterLink(absl::Duration down_for);
  void SlowRouterLink(absl::Duration delay, absl::Duration duration);
  void ExpireRouterSessions() {
    if (router_) router_->ExpireSessions();
  }
  void LoseRoutes() { lose_routes_++; }
  // When the last fault so far is over: what was down is back, what was to be lost is lost.
  absl::Time faults_over() const { return faults_over_; }

  WorkerLink* worker_link(int rank) { return &ends_[rank].link; }
  RouterLink* router_link() { return &router_link_; }
  ManualClock* clock() { return agenda_.clock(); }
  FakeWorker& worker(int rank) { return *ends_[rank].worker; }
  FakeRouter& router() { return *router_; }
  SplitMix64& random() { return random_; }
  absl::Duration RandomDuration(absl::Duration min, absl::Duration max);
  // Every contract violation that any worker or router has found.
  std::vector<std::string> Violations() const;
  // One line an event, if wanted.
  void Trace() { traces_ = true; }
  template <typename... Parts>
  void Log(const Parts&... parts) {
    if (traces_) absl::StrAppend(&log_, absl::ToUnixMicros(agenda_.now()), " ", parts..., "\n");
  }
  const std::string& log() const { return log_; }
  int64_t num_waits() const { return num_waits_; }
  int64_t num_plans() const { return num_plans_; }

 private:
  struct SimWorkerLink final : WorkerLink {
    SimWorld* world = nullptr;
    int rank = 0;
    void Send(ToWorker message) override { world->OnSend(rank, std::move(message)); }
  };
  struct SimRouterLink final : RouterLink {
    SimWorld* world = nullptr;
    void Send(ToRouter message) override { world->OnSend(std::move(message)); }
  };
  // A direction of a link: messages keep their order.
  struct Wire {
    absl::Time last;
    absl::Time slow_until = absl::InfinitePast();
    absl::Duration delay;  // at most, until then
  };
  struct WorkerEnd {
    FakeWorkerConfig config;
    SimWorkerLink link;
    Wire to, from;
    std::unique_ptr<FakeWorker> worker;
    bool connected = false;
    bool says_alive = false;
    int connection = 0;  // counts up; messages of an older one are lost
    bool busy = false;
    int work = 0;  // counts up with each step begun or aborted
    absl::Time frozen_until = absl::InfinitePast();
    std::vector<std::pair<int, ToWorker>> thawing;  // came while it was frozen, by connection
    std::optional<Form> forming;
    std::set<ExpertId> held;
    int lose_plans = 0;
    std::function<void(StepResult*)> corrupt;
    StepResult old_result;
    std::vector<std::string> violations;  // of incarnations that are gone
  };
  void OnSend(int rank, ToWorker message);
  void OnSend(ToRouter message);
  void Receive(int rank, ToWorker message);
  void Thaw(int rank);
  void Take(int rank, ToWorker message);
  void ReceiveAtRouter(const ToRouter& message);
  void WorkOn(int rank);
  // Forming as real workers do it (sim_forming.cc): they meet at a rendezvous that is good for one
  // group, then read the experts that are new to them, and may be ended at any point.
  void BeginForm(int rank, const Form& form);
  void EndForm(int rank, Epoch through);
  void LoadNext(int rank);
  void EndDamaged(int rank);
  void AnswerForm(int rank, Formed formed);
  std::string OpenMeeting(int rank);
  void CloseMeetingsOf(int rank);
  // Unless the rank dies or does something else meanwhile.
  void AfterAt(int rank, absl::Duration delay, std::function<void()> action);
  void Beat(int rank, int connection);
  void BeatAlive(int rank, int connection);
  void FinishStep(int rank, int work, int connection, StepResult result);
  void FromWorkerToEngine(int rank, FromWorker message);
  void FromRouterToEngine(FromRouter message);
  void Disconnect(int rank, const char* reason);
  void DisconnectRouter(const char* reason, absl::Duration down_for);
  absl::Time Arrival(Wire* wire);
  void Slow(Wire* wire, absl::Duration delay, absl::Duration duration);
  void FaultUntil(absl::Time time) { faults_over_ = std::max(faults_over_, time); }

  SplitMix64 random_;
  const FakeModel model_;
  sim::Agenda agenda_;
  std::vector<WorkerEnd> ends_;
  SimRouterLink router_link_;
  Wire to_router_, from_router_;
  std::unique_ptr<FakeRouter> router_;
  bool router_connected_ = false;
  int router_connection_ = 0;
  int lose_routes_ = 0;
  std::map<std::string, std::set<int>> meetings_;  // by rendezvous: who waits there
  int num_meetings_ = 0;
  absl::Time faults_over_ = absl::InfinitePast();
  std::vector<std::string> router_violations_;
  bool traces_ = false;
  std::string log_;
  int64_t num_waits_ = 0;
  int64_t num_plans_ = 0;
};

}  // namespace pregate::scheduler

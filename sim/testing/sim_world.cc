#include "sim/testing/sim_world.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

constexpr int64_t kWaitsMax = 1'000'000;  // a run of half an hour takes 30,000

}  // namespace

SimWorld::SimWorld(uint64_t seed, const FakeModel& model, std::vector<FakeWorkerConfig> workers)
    : random_(seed), model_(model), ends_(workers.size()) {
  for (size_t rank = 0; rank < workers.size(); ++rank) {
    ends_[rank].config = workers[rank];
    ends_[rank].link.world = this;
    ends_[rank].link.rank = static_cast<int>(rank);
  }
  router_link_.world = this;
}

std::vector<EngineEvent> SimWorld::Wait(absl::Time deadline) {
  PREGATE_CHECK(++num_waits_ < kWaitsMax, "the loop turns without end");
  return agenda_.Wait(deadline);
}

void SimWorld::RunOut(absl::Time end) {
  while (agenda_.RunNext(end)) {
  }
}

absl::Duration SimWorld::RandomDuration(absl::Duration min, absl::Duration max) {
  return min + (max - min) * (static_cast<double>(random_.Next() % 1000) / 1000);
}

absl::Time SimWorld::Arrival(Wire* wire) {
  absl::Duration takes = RandomDuration(absl::Microseconds(20), absl::Microseconds(500));
  if (agenda_.now() < wire->slow_until) takes += RandomDuration(absl::ZeroDuration(), wire->delay);
  wire->last = std::max(wire->last, agenda_.now() + takes);
  return wire->last;
}

void SimWorld::Slow(Wire* wire, absl::Duration delay, absl::Duration duration) {
  wire->slow_until = agenda_.now() + duration;
  wire->delay = delay;
  FaultUntil(wire->slow_until + delay);
}

// --- workers ---

void SimWorld::StartWorker(int rank) {
  WorkerEnd& end = ends_[rank];
  if (!end.worker) {
    end.worker = std::make_unique<FakeWorker>(end.config, random_.Next());
    end.held = {end.config.experts.begin(), end.config.experts.end()};
  }
  end.connected = true;
  end.says_alive = false;
  ++end.connection;
  Log("worker ", rank, " says hello");
  Hello hello = end.worker->MakeHello();
  hello.rendezvous = OpenMeeting(rank);
  FromWorkerToEngine(rank, std::move(hello));
  Beat(rank, end.connection);
}

void SimWorld::Beat(int rank, int connection) {
  const WorkerEnd& end = ends_[rank];
  if (end.connection != connection) return;
  if (end.frozen_until <= agenda_.now()) {
    const Progress progress = end.worker->LastProgress();
    UnitEvents units{progress.epoch, {}};
    if (!end.busy) units.events = end.worker->Tick(agenda_.now());
    if (!units.events.empty()) FromWorkerToEngine(rank, std::move(units));
    FromWorkerToEngine(rank, progress);
  }
  After(absl::Milliseconds(250), [=, this] { Beat(rank, connection); });
}

void SimWorld::BeatAlive(int rank, int connection) {
  const WorkerEnd& end = ends_[rank];
  if (end.connection != connection) return;
  if (end.frozen_until <= agenda_.now()) FromWorkerToEngine(rank, Alive{});
  After(absl::Milliseconds(kWorkerAliveMs), [=, this] { BeatAlive(rank, connection); });
}

void SimWorld::Disconnect(int rank, const char* reason) {
  WorkerEnd& end = ends_[rank];
  if (!end.connected) return;
  Log("worker ", rank, " ", reason);
  end.worker->OnDetach(end.connection);
  end.connected = false;
  ++end.connection;
  At(Arrival(&end.from), [=, this] { Deliver(WorkerDown{rank, reason}); });
}

void SimWorld::KillWorker(int rank, absl::Duration down_for) {
  WorkerEnd& end = ends_[rank];
  if (!end.connected) return;
  FaultUntil(agenda_.now() + down_for);
  Disconnect(rank, "dies");
  const auto& found = end.worker->violations();
  end.violations.insert(end.violations.end(), found.begin(), found.end());
  end.worker.reset();
  end.busy = false;
  ++end.work;
  end.forming.reset();
  CloseMeetingsOf(rank);
  After(down_for, [=, this] { StartWorker(rank); });
}

void SimWorld::BreakWorkerLink(int rank, absl::Duration down_for) {
  if (!ends_[rank].connected) return;
  FaultUntil(agenda_.now() + down_for);
  Disconnect(rank, "loses its link");
  After(down_for, [=, this] { StartWorker(rank); });
}

void SimWorld::FreezeWorker(int rank, absl::Duration duration) {
  Log("worker ", rank, " freezes");
  absl::Time& until = ends_[rank].frozen_until;
  until = std::max(until, agenda_.now() + duration);
  FaultUntil(until);
}

void SimWorld::SlowWorkerLink(int rank, absl::Duration delay, absl::Duration duration) {
  Log("the link of worker ", rank, " is slow");
  Slow(&ends_[rank].to, delay, duration);
  Slow(&ends_[rank].from, delay, duration);
}

void SimWorld::RepeatOldResult(int rank) {
  if (ends_[rank].connected && ends_[rank].old_result.epoch > 0)
    FromWorkerToEngine(rank, ends_[rank].old_result);
}

void SimWorld::OnSend(int rank, ToWorker message) {
  WorkerEnd& end = ends_[rank];
  if (std::holds_alternative<std::shared_ptr<const StepPlan>>(message)) {
    ++num_plans_;
    if (end.lose_plans > 0) {
      --end.lose_plans;
      FaultUntil(agenda_.now());
      Log("plan to worker ", rank, " is lost");
      return;
    }
  }
  if (!end.connected) return;
  const int connection = end.connection;
  At(Arrival(&end.to), [this, rank, connection, m = std::move(message)] {
    if (ends_[rank].connection == connection) Receive(rank, m);
  });
}

void SimWorld::Receive(int rank, ToWorker message) {
  WorkerEnd& end = ends_[rank];
  if (end.frozen_until <= agenda_.now() && end.thawing.empty()) return Take(rank, message);
  end.thawing.push_back({end.connection, std::move(message)});
  if (end.thawing.size() == 1) At(end.frozen_until, [=, this] { Thaw(rank); });
}

// What came meanwhile, in its order.
void SimWorld::Thaw(int rank) {
  WorkerEnd& end = ends_[rank];
  if (end.frozen_until > agenda_.now()) {
    return At(end.frozen_until, [=, this] { Thaw(rank); });
  }
  for (const auto& [connection, message] : std::exchange(end.thawing, {})) {
    if (end.connection == connection) Take(rank, message);
  }
}

void SimWorld::Take(int rank, ToWorker message) {
  WorkerEnd& end = ends_[rank];
  if (const Form* form = std::get_if<Form>(&message)) {
    Log("worker ", rank, " gets form ", form->epoch);
    BeginForm(rank, *form);
  }
  if (const Renew* renew = std::get_if<Renew>(&message)) {
    end.worker->OnRenew(end.connection, agenda_.now());
    if (!std::exchange(end.says_alive, true)) BeatAlive(rank, end.connection);
    EndForm(rank, renew->void_through);
  }
  if (const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message)) {
    Log("worker ", rank, " gets step ", (*plan)->step_id, " with ", (*plan)->rows.size(), " rows");
    if (end.worker->OnPlan(**plan)) WorkOn(rank);
  }
}

void SimWorld::WorkOn(int rank) {
  WorkerEnd& end = ends_[rank];
  if (end.busy || !end.worker->has_work()) return;
  end.busy = true;
  const absl::Time begin = std::max(agenda_.now(), end.frozen_until);
  FakeWorker::Step step = end.worker->BeginStep(begin);
  FromWorkerToEngine(rank, end.worker->LastProgress());
  const absl::Time done =
      step.loaded + RandomDuration(absl::Milliseconds(1), absl::Milliseconds(20));
  const int connection = end.connection;
  At(done, [=, this, work = ++end.work, result = std::move(step.result)] {
    FinishStep(rank, work, connection, result);
  });
}

// A step outlives a broken link (its answer goes nowhere), not a dead worker or a Form.
void SimWorld::FinishStep(int rank, int work, int connection, StepResult result) {
  WorkerEnd& end = ends_[rank];
  if (end.work != work) return;
  end.busy = false;
  end.worker->EndStep(agenda_.now(), &result);
  if (end.connection == connection) {
    end.old_result = result;
    end.old_result.unit_events.clear();
    if (end.corrupt) {
      std::exchange(end.corrupt, nullptr)(&result);
      FaultUntil(agenda_.now());
    }
    Log("worker ", rank, " answers step ", result.step_id, " with ", result.samples.size(),
        " samples");
    FromWorkerToEngine(rank, std::move(result));
  }
  WorkOn(rank);
}

void SimWorld::FromWorkerToEngine(int rank, FromWorker message) {
  WorkerEnd& end = ends_[rank];
  const int connection = end.connection;
  At(Arrival(&end.from), [this, rank, connection, m = std::move(message)] {
    if (ends_[rank].connection == connection) Deliver(WorkerEvent{rank, m});
  });
}

// --- router ---

void SimWorld::StartRouter() {
  if (!router_) router_ = std::make_unique<FakeRouter>(model_, random_.Next());
  router_connected_ = true;
  ++router_connection_;
  Log("the router says hello");
  RouterHello hello = router_->MakeHello();
  hello.answers_pings = true;
  FromRouterToEngine(hello);
}

void SimWorld::KillRouter(absl::Duration down_for) {
  if (!router_connected_) return;
  router_violations_.insert(router_violations_.end(), router_->violations().begin(),
                            router_->violations().end());
  router_.reset();
  DisconnectRouter("dies", down_for);
}

void SimWorld::BreakRouterLink(absl::Duration down_for) {
  if (router_connected_) DisconnectRouter("loses its link", down_for);
}

void SimWorld::DisconnectRouter(const char* reason, absl::Duration down_for) {
  Log("the router ", reason);
  FaultUntil(agenda_.now() + down_for);
  router_connected_ = false;
  ++router_connection_;
  At(Arrival(&from_router_), [=, this] { Deliver(RouterDown{reason}); });
  After(down_for, [this] { StartRouter(); });
}

void SimWorld::SlowRouterLink(absl::Duration delay, absl::Duration duration) {
  Log("the router's link is slow");
  Slow(&to_router_, delay, duration);
  Slow(&from_router_, delay, duration);
}

void SimWorld::OnSend(ToRouter message) {
  if (!router_connected_) return;
  At(Arrival(&to_router_), [this, c = router_connection_, m = std::move(message)] {
    if (c == router_connection_) ReceiveAtRouter(m);
  });
}

void SimWorld::ReceiveAtRouter(const ToRouter& message) {
  if (const CloseSession* close = std::get_if<CloseSession>(&message))
    return router_->OnClose(*close);
  if (std::holds_alternative<RouterPing>(message)) return FromRouterToEngine(RouterPong{});
  const RouteRequest& request = std::get<RouteRequest>(message);
  const RouteResponse response = router_->OnRequest(request);
  Log("the router routes ", response.routes.size(), " of session ", request.seq_id, " at ",
      request.base);
  if (lose_routes_ > 0) {
    --lose_routes_;
    FaultUntil(agenda_.now());
    return;
  }
  After(RandomDuration(absl::ZeroDuration(), absl::Milliseconds(3)),
        [this, c = router_connection_, response] {
          if (c == router_connection_) FromRouterToEngine(response);
        });
}

void SimWorld::FromRouterToEngine(FromRouter message) {
  At(Arrival(&from_router_), [this, c = router_connection_, m = std::move(message)] {
    if (c == router_connection_) Deliver(RouterEvent{m});
  });
}

std::vector<std::string> SimWorld::Violations() const {
  std::vector<std::string> all = router_violations_;
  const auto append = [&](const std::vector<std::string>& more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  for (const WorkerEnd& end : ends_) {
    append(end.violations);
    if (end.worker) append(end.worker->violations());
  }
  if (router_) append(router_->violations());
  return all;
}

}  // namespace pregate::scheduler

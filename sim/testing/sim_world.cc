#include "sim/testing/sim_world.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"

namespace pregate::scheduler {

SimWorld::SimWorld(uint64_t seed, const FakeModel& model, std::vector<FakeWorkerConfig> workers)
    : random_(seed),
      model_(model),
      ends_(workers.size()),
      last_to_(workers.size()),
      last_from_(workers.size()) {
  for (size_t rank = 0; rank < workers.size(); ++rank) {
    ends_[rank].config = workers[rank];
    ends_[rank].link.world = this;
    ends_[rank].link.rank = static_cast<int>(rank);
  }
  router_link_.world = this;
}

std::vector<EngineEvent> SimWorld::Wait(absl::Time deadline) {
  ++num_waits_;
  return agenda_.Wait(deadline);
}

void SimWorld::RunOut(absl::Time end) {
  while (agenda_.RunNext(end)) {
  }
}

absl::Duration SimWorld::RandomDuration(absl::Duration min, absl::Duration max) {
  return min + (max - min) * (static_cast<double>(random_.Next() % 1000) / 1000);
}

// Messages of one link arrive in order.
absl::Time SimWorld::Arrival(absl::Time* last) {
  *last = std::max(*last,
                   agenda_.now() + RandomDuration(absl::Microseconds(20), absl::Microseconds(500)));
  return *last;
}

void SimWorld::Log(const std::string& line) {
  absl::StrAppend(&log_, absl::ToUnixMicros(agenda_.now()), " ", line, "\n");
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
  Log(absl::StrCat("worker ", rank, " says hello"));
  Hello hello = end.worker->MakeHello();
  hello.rendezvous = OpenMeeting(rank);
  hello.lease_ms = 5000;
  FromWorkerToEngine(rank, std::move(hello));
  Beat(rank, end.connection);
}

void SimWorld::Beat(int rank, int connection) {
  const WorkerEnd& end = ends_[rank];
  if (end.connection != connection) return;
  if (end.frozen_until <= agenda_.now()) FromWorkerToEngine(rank, end.worker->LastProgress());
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
  Log(absl::StrCat("worker ", rank, " ", reason));
  end.connected = false;
  ++end.connection;
  At(Arrival(&last_from_[rank]), [=, this] { Deliver(WorkerDown{rank, reason}); });
}

void SimWorld::KillWorker(int rank, absl::Duration down_for) {
  WorkerEnd& end = ends_[rank];
  if (!end.connected) return;
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
  Disconnect(rank, "loses its link");
  After(down_for, [=, this] { StartWorker(rank); });
}

void SimWorld::FreezeWorker(int rank, absl::Duration duration) {
  Log(absl::StrCat("worker ", rank, " freezes"));
  absl::Time& until = ends_[rank].frozen_until;
  until = std::max(until, agenda_.now() + duration);
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
      Log(absl::StrCat("plan to worker ", rank, " is lost"));
      return;
    }
  }
  if (!end.connected) return;
  const int connection = end.connection;
  At(Arrival(&last_to_[rank]), [this, rank, connection, m = std::move(message)] {
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
    Log(absl::StrCat("worker ", rank, " gets form ", form->epoch));
    BeginForm(rank, *form);
  }
  if (const Renew* renew = std::get_if<Renew>(&message)) {
    if (!std::exchange(end.says_alive, true)) BeatAlive(rank, end.connection);
    EndForm(rank, renew->void_through);
  }
  if (const auto* plan = std::get_if<std::shared_ptr<const StepPlan>>(&message)) {
    Log(absl::StrCat("worker ", rank, " gets step ", (*plan)->step_id, " with ",
                     (*plan)->rows.size(), " rows"));
    if (end.worker->OnPlan(**plan)) WorkOn(rank);
  }
}

void SimWorld::WorkOn(int rank) {
  WorkerEnd& end = ends_[rank];
  if (end.busy || !end.worker->has_work()) return;
  end.busy = true;
  FromWorkerToEngine(rank, end.worker->LastProgress());
  const int connection = end.connection;
  const absl::Time done = std::max(agenda_.now(), end.frozen_until) +
                          RandomDuration(absl::Milliseconds(1), absl::Milliseconds(20));
  At(done, [=, this, work = ++end.work] { FinishStep(rank, work, connection); });
}

// A step outlives a broken link (its answer goes nowhere), not a dead worker or a Form.
void SimWorld::FinishStep(int rank, int work, int connection) {
  WorkerEnd& end = ends_[rank];
  if (end.work != work) return;
  end.busy = false;
  StepResult result = end.worker->RunNext();
  if (end.connection == connection) {
    end.old_result = result;
    if (end.corrupt) std::exchange(end.corrupt, nullptr)(&result);
    Log(absl::StrCat("worker ", rank, " answers step ", result.step_id, " with ",
                     result.samples.size(), " samples"));
    FromWorkerToEngine(rank, std::move(result));
  }
  WorkOn(rank);
}

void SimWorld::FromWorkerToEngine(int rank, FromWorker message) {
  const int connection = ends_[rank].connection;
  At(Arrival(&last_from_[rank]), [this, rank, connection, m = std::move(message)] {
    if (ends_[rank].connection == connection) Deliver(WorkerEvent{rank, m});
  });
}

// --- router ---

void SimWorld::StartRouter() {
  if (!router_) router_ = std::make_unique<FakeRouter>(model_, random_.Next());
  router_connected_ = true;
  ++router_connection_;
  Log("the router says hello");
  At(Arrival(&last_from_router_), [this, c = router_connection_, hello = router_->MakeHello()] {
    if (c == router_connection_) Deliver(RouterEvent{hello});
  });
}

void SimWorld::KillRouter(absl::Duration down_for) {
  if (!router_connected_) return;
  Log("the router dies");
  router_connected_ = false;
  ++router_connection_;
  router_violations_.insert(router_violations_.end(), router_->violations().begin(),
                            router_->violations().end());
  router_.reset();
  At(Arrival(&last_from_router_), [this] { Deliver(RouterDown{"dies"}); });
  After(down_for, [this] { StartRouter(); });
}

void SimWorld::OnSend(ToRouter message) {
  if (!router_connected_) return;
  At(Arrival(&last_to_router_), [this, c = router_connection_, m = std::move(message)] {
    if (c == router_connection_) ReceiveAtRouter(m);
  });
}

void SimWorld::ReceiveAtRouter(const ToRouter& message) {
  if (const CloseSession* close = std::get_if<CloseSession>(&message))
    return router_->OnClose(*close);
  const RouteRequest& request = std::get<RouteRequest>(message);
  const RouteResponse response = router_->OnRequest(request);
  Log(absl::StrCat("the router routes ", response.routes.size(), " of session ", request.seq_id,
                   " at ", request.base));
  if (lose_routes_ > 0) {
    --lose_routes_;
    return;
  }
  At(Arrival(&last_from_router_) + RandomDuration(absl::Milliseconds(0), absl::Milliseconds(3)),
     [this, c = router_connection_, response] {
       if (c == router_connection_) Deliver(RouterEvent{response});
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

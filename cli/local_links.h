// In-process links: the scheduler's loop beside a router and a worker in one process. They carry
// the structs of common/step as they are.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "expert_service/engine/worker_port.h"
#include "router_service/engine/router_engine.h"
#include "scheduler_service/engine/links.h"

namespace pregate::cli {

// Takes an event for the scheduler's inbox; false when it is full. Thread-safe.
using PushEvent = std::function<bool(EngineEvent)>;

// Gives events to `push` until Close has returned, from whatever thread they come.
class ClosablePush {
 public:
  explicit ClosablePush(PushEvent push) : push_(std::move(push)) {}
  void operator()(EngineEvent event);
  void Close();

 private:
  absl::Mutex mutex_;
  PushEvent push_ ABSL_GUARDED_BY(mutex_);
};

// Attaches on construction: the worker's Hello follows as an event. `worker` outlives the link.
class LocalWorkerLink final : public WorkerLink {
 public:
  LocalWorkerLink(int32_t rank, WorkerPort* worker, PushEvent push);
  ~LocalWorkerLink() override;
  void Send(ToWorker message) override;

 private:
  const int32_t rank_;
  WorkerPort* const worker_;
  const std::shared_ptr<ClosablePush> push_;  // the worker's thread may hold it longer
  LinkId link_ = 0;
};

// Connects on construction: the router's hello is pushed before this returns. `engine` outlives the
// link.
class LocalRouterLink final : public RouterLink {
 public:
  LocalRouterLink(RouterEngine* engine, PushEvent push);
  ~LocalRouterLink() override;
  void Send(ToRouter message) override;

 private:
  RouterEngine* const engine_;
  const std::shared_ptr<ClosablePush> push_;
  ConnectionId connection_ = 0;
};

}  // namespace pregate::cli

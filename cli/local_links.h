// In-process links: the scheduler's loop beside a router and a worker in one process. They carry
// the structs of common/step as they are.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/step/peer.h"
#include "scheduler_service/engine/links.h"

namespace pregate::cli {

// Takes an event for the scheduler's inbox; false when it is full. Thread-safe.
using PushEvent = std::function<bool(EngineEvent)>;

// Gives events to `push` until Close has returned, from whatever thread they come.
class ClosablePush {
 public:
  explicit ClosablePush(PushEvent push) : push_(std::move(push)) {}
  void operator()(EngineEvent event) {
    absl::MutexLock lock(&mutex_);
    if (push_) push_(std::move(event));
  }
  void Close() {
    absl::MutexLock lock(&mutex_);
    push_ = nullptr;
  }

 private:
  absl::Mutex mutex_;
  PushEvent push_ ABSL_GUARDED_BY(mutex_);
};

// Link: WorkerLink or RouterLink, whose engine is `peer`; it outlives the link. Attaches on
// construction: the engine's hello is pushed before this returns.
template <typename Link, typename In, typename Out>
class LocalLink final : public Link {
 public:
  LocalLink(Peer<In, Out>* peer, PushEvent push, std::function<EngineEvent(Out)> event,
            std::function<EngineEvent(std::string reason)> down)
      : peer_(peer),
        push_(std::make_shared<ClosablePush>(std::move(push))),
        down_(std::move(down)) {
    link_ = peer_->Attach([push = push_, event = std::move(event)](Out message) {
      (*push)(event(std::move(message)));
    });
  }
  ~LocalLink() override {
    peer_->Detach(link_);
    push_->Close();
  }
  void Send(In message) override {
    if (peer_->Submit(link_, std::move(message))) return;
    (*push_)(down_("its mailbox is full or closed"));
  }

 private:
  Peer<In, Out>* const peer_;
  const std::shared_ptr<ClosablePush> push_;  // the engine's thread may hold it longer
  const std::function<EngineEvent(std::string reason)> down_;
  LinkId link_ = 0;
};

inline std::unique_ptr<WorkerLink> MakeLocalWorkerLink(int32_t rank,
                                                       Peer<ToWorker, FromWorker>* worker,
                                                       PushEvent push) {
  return std::make_unique<LocalLink<WorkerLink, ToWorker, FromWorker>>(
      worker, std::move(push),
      [rank](FromWorker message) {
        return WorkerEvent{rank, std::move(message)};
      },
      [rank](std::string reason) {
        return WorkerDown{rank, std::move(reason)};
      });
}

inline std::unique_ptr<RouterLink> MakeLocalRouterLink(Peer<ToRouter, FromRouter>* router,
                                                       PushEvent push) {
  return std::make_unique<LocalLink<RouterLink, ToRouter, FromRouter>>(
      router, std::move(push), [](FromRouter message) { return RouterEvent{std::move(message)}; },
      [](std::string reason) { return RouterDown{std::move(reason)}; });
}

}  // namespace pregate::cli

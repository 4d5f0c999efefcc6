// The production inbox, a bounded mailbox that links push into, and the clients' face of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "common/base/clock.h"
#include "common/base/mailbox.h"
#include "scheduler_service/engine/links.h"

namespace pregate {

// Push from any thread, Wait from the engine's. `clock` is the engine's and outlives the inbox.
class MailboxInbox final : public Inbox {
 public:
  MailboxInbox(size_t capacity, Clock* clock) : mailbox_(capacity), clock_(clock) {}

  // False when it is full: the event is not taken.
  bool Push(EngineEvent event) { return mailbox_.Push(std::move(event)); }

  std::vector<EngineEvent> Wait(absl::Time deadline) override {
    return mailbox_.Wait(std::max(deadline - clock_->Now(), absl::ZeroDuration()));
  }

 private:
  Mailbox<EngineEvent> mailbox_;
  Clock* const clock_;
};

// The clients' side: a request, and who is told what becomes of it.
class SchedulerPeer final : public Peer<GenerateRequest, ToClient> {
 public:
  // `push` takes an event for the engine's inbox (false: full), as long as the peer lives.
  explicit SchedulerPeer(std::function<bool(EngineEvent)> push) : push_(std::move(push)) {}

  LinkId Attach(Send send) override {
    absl::MutexLock lock(&mutex_);
    sends_[++last_link_] = std::move(send);
    return last_link_;
  }
  // Once a link.
  bool Submit(LinkId link, GenerateRequest request) override {
    return push_(SubmitEvent{link, std::move(request), Take(link)});
  }
  void Detach(LinkId link) override {
    Take(link);
    push_(DetachEvent{link});
  }

 private:
  Send Take(LinkId link) {
    absl::MutexLock lock(&mutex_);
    const auto entry = sends_.extract(link);
    return entry.empty() ? Send() : std::move(entry.mapped());
  }

  const std::function<bool(EngineEvent)> push_;
  absl::Mutex mutex_;
  LinkId last_link_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<LinkId, Send> sends_ ABSL_GUARDED_BY(mutex_);  // until their request comes
};

}  // namespace pregate

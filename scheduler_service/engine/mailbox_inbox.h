// The production inbox: a bounded mailbox that edges and links push into.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

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

}  // namespace pregate

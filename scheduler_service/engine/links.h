// What stands between the scheduler's loop and the world. Links never block: they take a message
// and return; answers, losses and client requests come back as events through the inbox.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/step/control.h"
#include "common/step/peer.h"
#include "common/step/route.h"
#include "scheduler_service/core/request.h"

namespace pregate {

// To the worker of one rank. Messages sent while the link is down are lost; the loop learns of it
// by WorkerDown. While it is up no message is lost and their order stays, either way: a link that
// cannot keep up (its queue is full) goes down instead.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual void Send(ToWorker message) = 0;
};

class RouterLink {
 public:
  virtual ~RouterLink() = default;
  virtual void Send(ToRouter message) = 0;
};

// What a client's stream has to do with the loop: SchedulerPeer makes both.
struct SubmitEvent {
  LinkId link = 0;  // one request a link
  GenerateRequest request;
  std::function<void(ToClient)> send;
};
struct DetachEvent {
  LinkId link = 0;
};
// A worker is up when its Hello arrives; a new Hello after WorkerDown is a new connection.
struct WorkerEvent {
  int32_t rank = 0;
  FromWorker message;
};
struct WorkerDown {
  int32_t rank = 0;
  std::string reason;
};
struct RouterEvent {
  FromRouter message;  // RouterHello first on every connection
};
struct RouterDown {
  std::string reason;
};
struct DrainEvent {};  // finish what is admitted, refuse the rest, then return from Run
using EngineEvent = std::variant<SubmitEvent, DetachEvent, WorkerEvent, WorkerDown, RouterEvent,
                                 RouterDown, DrainEvent>;

// The one place where the loop blocks. The production inbox is a Mailbox; the simulator's moves
// virtual time.
class Inbox {
 public:
  virtual ~Inbox() = default;
  // Returns all queued events in order of arrival; waits for one until `deadline` (InfinitePast: do
  // not wait).
  virtual std::vector<EngineEvent> Wait(absl::Time deadline) = 0;
};

}  // namespace pregate

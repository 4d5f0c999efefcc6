// The schedulers' streams at a worker, and what is done for them at once, whatever the worker's
// loop is busy with.
//
//   Attach   Hello, as of the loop's last turn
//   Form     refused here (Formed), or: the epoch before it ends wherever it is, and the loop takes
//            it in its turn. A Form that is itself ended before its turn comes is not even begun.
//   Renew    the lease goes on; void epochs end; from then on the link gets Alive
//   Detach   the holder's: the worker is free, and the others get Hello again
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/step/control.h"
#include "common/step/peer.h"
#include "expert_service/core/lease.h"
#include "expert_service/engine/worker_observer.h"

namespace pregate {

// Thread-safe; nothing blocks.
class WorkerLinks {
 public:
  using Send = Peer<ToWorker, FromWorker>::Send;
  struct Calls {
    // Whether the worker could serve the Form, whoever sends it.
    std::function<absl::Status(const Form&)> check_form;
    // For the next group; empty when there is none.
    std::function<std::string()> make_rendezvous;
  };

  // Clock, observer and what the calls touch outlive the object.
  WorkerLinks(absl::Duration lease, Calls calls, Clock* clock, WorkerObserver* observer);

  // What the next link is told; its last epoch, rendezvous and lease are filled in here.
  void SetHello(Hello hello);
  void Attach(LinkId link, Send send);
  void Detach(LinkId link);

  // Before the message waits for the loop; nothing: it need not, all is done. The token of a Form
  // ends its epoch.
  std::optional<std::stop_token> Arrive(LinkId link, const ToWorker& message);
  // Ends the epoch in force and every later one.
  void Close();

  void SendTo(LinkId link, FromWorker message);
  void SendAlive(const Alive& alive);
  LinkId holder() const;

 private:
  struct Link {
    Send send;
    bool renews = false;
  };

  std::optional<std::stop_token> Admit(LinkId link, const Form& form);
  void OnRenew(LinkId link, const Renew& renew);
  Hello MakeHello();

  const absl::Duration term_;
  const Calls calls_;
  Clock* const clock_;
  WorkerObserver* const observer_;

  mutable std::mutex mutex_;
  std::map<LinkId, Link> links_ ABSL_GUARDED_BY(mutex_);
  Lease lease_ ABSL_GUARDED_BY(mutex_);
  std::stop_source epoch_ ABSL_GUARDED_BY(mutex_);  // of the last Form that was admitted
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  Hello hello_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate

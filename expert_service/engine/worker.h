// The worker: one loop on one thread that turns ToWorker messages into FromWorker messages.
//
//   Attach(send) ─▶ Hello            Form ─▶ Formed            Plan ─▶ Progress …, StepResult
//
// Epochs (DESIGN section 5). A Form must carry an epoch above the highest one seen; a tie or a
// stale epoch is refused by Formed.status, which names the scheduler that holds the epoch. An
// accepted Form aborts the step that runs, empties every slot and block table and makes its link
// the owner: results and progress go there, and plans are taken from there alone. Plans and drains
// of another epoch are dropped with a log line. A plan whose step_id is not the last one + 1, or
// that fails as a whole, is answered by a StepResult with an error status and voids the epoch:
// every later plan of it is refused the same way until the next Form. After a Drain plans go on and
// Forms are refused.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mailbox.h"
#include "common/collective/collective.h"
#include "common/step/control.h"
#include "common/telemetry/log.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {

// One attached scheduler stream (or in-process link); never reused within a process.
using LinkId = uint64_t;

struct WorkerOptions {
  int32_t rank = 0;                                           // index in the scheduler's --workers
  uint64_t incarnation = 0;                                   // random per process
  std::string config_digest;                                  // over cluster-wide options
  absl::Duration heartbeat_period = absl::Milliseconds(250);  // Progress when idle
  absl::Duration progress_period = absl::Milliseconds(200);  // least time between two within a step
  bool exchange_alone = false;  // expert rows go through a collective with one member too
  absl::Duration join_timeout = absl::Seconds(5);  // for the members of an epoch to find each other
};

// The state machine. Not thread-safe but for InterruptBefore; WorkerLoop owns the thread.
class Worker {
 public:
  // Called on the worker's thread; must not block.
  using Send = std::function<void(FromWorker)>;

  // `clock`, `log` and `collectives` outlive the worker. `collectives` may be null: then it runs
  // alone.
  Worker(WorkerOptions options, std::unique_ptr<StepExecutor> executor, Clock* clock,
         const Log* log, CollectiveFactory* collectives);

  void Attach(LinkId link, Send send);  // sends Hello
  // The stream broke. State is kept until the next Form; answers of the link's epoch go nowhere.
  void Detach(LinkId link);
  void Handle(LinkId link, ToWorker message);
  // Progress of the last step, to show that the loop turns. The loop calls it when idle.
  void Heartbeat();

  // Thread-safe: a Form of `epoch` waits. When the epoch is new, the step that runs stops at its
  // next layer, and its exchange with other ranks at once.
  void InterruptBefore(Epoch epoch);

  Hello MakeHello() const;
  Epoch epoch() const { return epoch_; }
  bool draining() const { return draining_; }
  // What is resident, as of the last message or heartbeat; thread-safe.
  ResidencyStats residency() const;
  // When the loop last turned or a layer ended; thread-safe.
  absl::Time last_progress() const;
  absl::Duration heartbeat_period() const { return options_.heartbeat_period; }

 private:
  void HandleForm(LinkId link, const Form& form);
  void HandlePlan(LinkId link, const StepPlan& plan);
  void HandleDrain(const Drain& drain);
  absl::Status CheckForm(const Form& form) const;
  absl::Status EnterEpoch(const Form& form);
  std::string MakeRendezvous() const;
  // What InterruptBefore may abort from another thread.
  void SetCollective(Epoch epoch, std::shared_ptr<Collective> collective);
  StepResult RunStep(const StepPlan& plan);
  bool OnProgress(StepId step_id);  // false: stop the step
  void SendProgress(StepId step_id);
  void SendToOwner(FromWorker message);
  void Touch();  // moves last_progress
  void PublishResidency();

  const WorkerOptions options_;
  const std::unique_ptr<StepExecutor> executor_;
  Clock* const clock_;
  const Log* const log_;
  CollectiveFactory* const collectives_;

  std::map<LinkId, Send> links_;
  LinkId owner_ = 0;          // the link that formed the epoch; 0: none
  std::string scheduler_id_;  // who formed it
  Epoch epoch_ = 0;           // the one in force = the highest that was accepted
  StepId last_step_ = 0;
  absl::Status void_reason_;  // not OK: the epoch takes no more plans
  bool draining_ = false;
  absl::Time progress_sent_ = absl::InfinitePast();

  std::mutex collective_mutex_;  // the next two; only this thread writes them
  std::shared_ptr<Collective> collective_;
  Epoch collective_epoch_ = 0;

  mutable std::mutex residency_mutex_;
  ResidencyStats residency_;  // guarded by it

  std::atomic<Epoch> awaited_epoch_{0};
  std::atomic<int64_t> last_progress_ns_{0};
};

// Runs a Worker on its own thread. Every public method is thread-safe and returns at once, except
// Stop.
class WorkerLoop {
 public:
  explicit WorkerLoop(std::unique_ptr<Worker> worker);
  ~WorkerLoop();  // Stop()

  // Opens a link; its first message is Hello. `send` runs on the worker's thread, must not block,
  // and may still be called until the loop has seen Disconnected: let it own what it touches.
  LinkId Attach(Worker::Send send);
  // False when the mailbox is full or the loop has stopped: the caller should break the stream.
  bool Submit(LinkId link, ToWorker message);
  // The link's stream broke.
  void Disconnected(LinkId link);

  // For the health service: ready while this is at most about a second old.
  absl::Time last_progress() const { return worker_->last_progress(); }
  ResidencyStats residency() const { return worker_->residency(); }

  // Ends the step that runs at its next layer, then the thread. Idempotent; not from `send`.
  void Stop();

 private:
  struct Attached {
    LinkId link;
    Worker::Send send;
  };
  struct Received {
    LinkId link;
    ToWorker message;
  };
  struct Detached {
    LinkId link;
  };
  using Event = std::variant<Attached, Received, Detached>;

  void Run();

  const std::unique_ptr<Worker> worker_;
  Mailbox<Event> mailbox_;
  std::atomic<LinkId> next_link_{1};
  std::mutex stop_mutex_;
  std::thread thread_;  // joined under stop_mutex_
};

}  // namespace pregate

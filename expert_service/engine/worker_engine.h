// The worker's one loop on one thread: ToWorker messages become FromWorker messages. A second thread
// says that the process lives while the first is busy. worker_links.h has what happens to a message
// before its turn.
//
//   Submit (any thread) ─▶ WorkerLinks::Arrive ─▶ Mailbox ─▶ Run: Handle, one after the other
//
//   Form ─▶ Formed            Plan ─▶ Progress …, StepResult            nothing ─▶ Progress
//
// Epochs (docs/CONTRACTS.md, "Forming"). A Form that is admitted (core/lease.h) ends the epoch
// before it at once, be that in a step, in joining its peers or in reading experts; then it empties
// every slot and block table and makes its link the owner: results and progress go there, and plans
// are taken from there alone. Every Form is answered; one that a later one has overtaken is not
// begun. Plans of another epoch are dropped with a log line. A plan whose step_id is not the last
// one + 1, or that fails as a whole, is answered by a StepResult with an error status and voids the
// epoch: every later plan of it is refused the same way until the next Form.
//
// A Form that fails says by its code who is to blame (scheduler_service/engine/worker_group.h):
// UNAVAILABLE the peers, ABORTED the epoch's end. Any other is this worker's own. Experts that it
// cannot read now, damaged ones say, it never can: on_broken. Memory that runs out is no such
// reason, for with more members it needs less. Nor can it run a step again after one that lost the
// device (DATA_LOSS): on_broken, too.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <variant>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mailbox.h"
#include "common/collective/collective.h"
#include "common/step/control.h"
#include "common/step/peer.h"
#include "expert_service/core/lease.h"
#include "expert_service/engine/step_executor.h"
#include "expert_service/engine/traced_sequences.h"
#include "expert_service/engine/worker_links.h"
#include "expert_service/engine/worker_observer.h"

namespace pregate {

struct WorkerEngineOptions {
  int32_t rank = 0;                                           // index in the scheduler's --workers
  uint64_t incarnation = 0;                                   // random per process
  absl::Duration heartbeat_period = absl::Milliseconds(250);  // Progress when idle
  absl::Duration progress_period = absl::Milliseconds(200);   // least time between two when busy
  bool exchange_alone = false;  // expert rows go through a collective with one member too
  // For the members of an epoch to find each other. Long: who is missing is the scheduler's to say.
  absl::Duration join_timeout = absl::Seconds(60);
  absl::Duration lease = absl::Seconds(5);  // of a silent scheduler while another asks
  // The worker has found out, after it began to serve, what would have ended its start: it is of no
  // more use. Called from the loop's thread after the answer to the Form or plan, once; may be empty.
  std::function<void(const absl::Status& why)> on_broken;
};

// Who holds the worker is of interest to its edge.
class WorkerPeer : public Peer<ToWorker, FromWorker> {
 public:
  // The link whose scheduler holds the worker; 0: none.
  virtual LinkId holder() const = 0;
};

// Attach, Submit, Detach, Stop and what says so are thread-safe.
class WorkerEngine final : public WorkerPeer {
 public:
  // `clock`, `collectives` and `observer` outlive the engine. `collectives` may be null: then it
  // runs alone.
  WorkerEngine(WorkerEngineOptions options, std::unique_ptr<StepExecutor> executor, Clock* clock,
               CollectiveFactory* collectives, WorkerObserver* observer);
  ~WorkerEngine() override;  // Stop()

  // Starts both threads. Once.
  void Start();
  // Ends what runs (a step at its next layer, joining and exchanging at once, reading experts at
  // the next one), then the loop. Idempotent.
  void Stop();

  // Hello is said before this returns.
  LinkId Attach(Send send) override;
  bool Submit(LinkId link, ToWorker message) override;
  void Detach(LinkId link) override { links_.Detach(link); }
  LinkId holder() const override { return links_.holder(); }
  // When the loop last turned or a layer ended; thread-safe.
  absl::Time last_progress() const;

  // The loop, and its parts for tests that have no thread.
  void Run();
  // `epoch`: what links() said of a Form; when it stops, so does what runs for it.
  void Handle(LinkId link, ToWorker message, std::stop_token epoch);
  // Progress of the last step, to show that the loop turns.
  void Heartbeat();
  WorkerLinks& links() { return links_; }
  void SendAlive() { links_.SendAlive({.waits_for_peers = waits_for_peers_}); }
  Epoch epoch() const { return epoch_; }

 private:
  void HandleForm(LinkId link, const Form& form, std::stop_token epoch);
  void HandlePlan(LinkId link, const StepPlan& plan);
  absl::Status CheckForm(const Form& form) const;  // thread-safe
  absl::Status EnterEpoch(const Form& form);
  absl::StatusOr<std::unique_ptr<Collective>> Join(const Form& form);
  // Once, where something has made this worker useless.
  void TellBroken();
  std::string MakeRendezvous() const;  // thread-safe
  Hello MakeHello() const;
  StepResult RunStep(const StepPlan& plan);
  bool OnProgress(StepId step_id);  // false: the epoch has ended
  void SendProgress(StepId step_id);
  void Touch();  // moves last_progress
  // Where it has changed: tells the observer, and links that attach from now on.
  void PublishResidency();
  void SayAlive();

  struct Received {
    LinkId link;
    ToWorker message;
    std::stop_token epoch;  // of a Form
  };

  const WorkerEngineOptions options_;
  const std::unique_ptr<StepExecutor> executor_;
  Clock* const clock_;
  CollectiveFactory* const collectives_;
  WorkerObserver* const observer_;
  WorkerLinks links_;

  LinkId owner_ = 0;             // the link that formed the epoch; 0: none
  Epoch epoch_ = 0;              // the last that was begun
  std::stop_token epoch_ended_;  // its
  std::unique_ptr<Collective> collective_;
  // Ends the collective's operation when the epoch ends.
  std::optional<std::stop_callback<std::function<void()>>> abort_;
  absl::Status broken_;  // not OK: on_broken is due, or was called
  bool broken_told_ = false;
  std::string kv_owner_;  // the scheduler of the epochs from kv_since_ on
  Epoch kv_since_ = 0;
  StepId last_step_ = 0;
  absl::Status void_reason_;  // not OK: the epoch takes no more plans
  absl::Time progress_sent_ = absl::InfinitePast();

  ResidencyStats residency_;  // as it was told last
  TracedSequences traced_;

  std::atomic<bool> waits_for_peers_{false};
  std::atomic<int64_t> last_progress_ns_{0};

  Mailbox<Received> mailbox_;
  Mailbox<std::monostate> alive_end_;  // only ever closed
  std::atomic<LinkId> next_link_{1};
  std::mutex stop_mutex_;
  std::thread thread_, alive_thread_;  // joined under stop_mutex_
};

}  // namespace pregate

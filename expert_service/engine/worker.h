// What a worker does, turn by turn: ToWorker messages become FromWorker messages. worker_loop.h has
// the thread, worker_links.h what happens to a message before its turn.
//
//   Form ─▶ Formed            Plan ─▶ Progress …, StepResult            nothing ─▶ Progress
//
// Epochs (docs/CONTRACTS.md, "Forming"). A Form that is admitted (core/lease.h) ends the epoch
// before it at once, be that in a step, in joining its peers or in reading experts; then it empties
// every slot and block table and makes its link the owner: results and progress go there, and plans
// are taken from there alone. Every Form is answered; one that a later one has overtaken is not
// begun.
// Plans and drains of another epoch are dropped with a log line. A plan whose step_id is not the
// last one + 1, or that fails as a whole, is answered by a StepResult with an error status and
// voids the epoch: every later plan of it is refused the same way until the next Form. After a
// Drain plans go on and Forms are refused.
//
// A Form that fails says by its code who is to blame (scheduler_service/engine/worker_group.h):
// UNAVAILABLE the peers, ABORTED the epoch's end. Any other is this worker's own. Experts that it
// cannot read now, damaged ones say, it never can: on_broken. Memory that runs out is no such
// reason, for with more members it needs less.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/collective/collective.h"
#include "common/step/control.h"
#include "common/telemetry/log.h"
#include "expert_service/core/lease.h"
#include "expert_service/engine/step_executor.h"
#include "expert_service/engine/worker_links.h"

namespace pregate {

struct WorkerOptions {
  int32_t rank = 0;                                           // index in the scheduler's --workers
  uint64_t incarnation = 0;                                   // random per process
  std::string config_digest;                                  // over cluster-wide options
  absl::Duration heartbeat_period = absl::Milliseconds(250);  // Progress when idle
  absl::Duration progress_period = absl::Milliseconds(200);   // least time between two when busy
  bool exchange_alone = false;  // expert rows go through a collective with one member too
  // For the members of an epoch to find each other. Long: who is missing is the scheduler's to say.
  absl::Duration join_timeout = absl::Seconds(60);
  absl::Duration lease = absl::Seconds(5);  // of a silent scheduler while another asks
  // The worker has found out, after it began to serve, what would have ended its start: it is of no
  // more use. Called from the loop's thread after the Form's answer, once; may be empty.
  std::function<void(const absl::Status& why)> on_broken;
};

// Not thread-safe but for what says so; WorkerLoop owns the thread.
class Worker {
 public:
  using Send = WorkerLinks::Send;

  // `clock`, `log` and `collectives` outlive the worker. `collectives` may be null: then it runs
  // alone.
  Worker(WorkerOptions options, std::unique_ptr<StepExecutor> executor, Clock* clock,
         const Log* log, CollectiveFactory* collectives);

  // Thread-safe. A message goes through Arrive first.
  WorkerLinks& links() { return links_; }
  // `epoch`: what links() said of a Form; when it stops, so does what runs for it.
  void Handle(LinkId link, ToWorker message, std::stop_token epoch);
  // Progress of the last step, to show that the loop turns. The loop calls it when idle.
  void Heartbeat();
  // Thread-safe: tells the schedulers that the process lives.
  void SendAlive() { links_.SendAlive({.waits_for_peers = waits_for_peers_}); }

  Epoch epoch() const { return epoch_; }
  bool draining() const { return draining_; }
  // What is resident, as of the last message or heartbeat; thread-safe.
  ResidencyStats residency() const;
  // When the loop last turned or a layer ended; thread-safe.
  absl::Time last_progress() const;
  absl::Duration heartbeat_period() const { return options_.heartbeat_period; }

 private:
  void HandleForm(LinkId link, const Form& form, std::stop_token epoch);
  void HandlePlan(LinkId link, const StepPlan& plan);
  void HandleDrain(const Drain& drain);
  absl::Status CheckForm(const Form& form) const;  // thread-safe
  absl::Status EnterEpoch(const Form& form);
  absl::StatusOr<std::unique_ptr<Collective>> Join(const Form& form);
  std::string MakeRendezvous() const;  // thread-safe
  Hello MakeHello() const;
  StepResult RunStep(const StepPlan& plan);
  bool OnProgress(StepId step_id);  // false: the epoch has ended
  void SendProgress(StepId step_id);
  void Touch();  // moves last_progress
  void PublishResidency();

  const WorkerOptions options_;
  const std::unique_ptr<StepExecutor> executor_;
  Clock* const clock_;
  const Log* const log_;
  CollectiveFactory* const collectives_;
  WorkerLinks links_;

  LinkId owner_ = 0;             // the link that formed the epoch; 0: none
  Epoch epoch_ = 0;              // the last that was begun
  std::stop_token epoch_ended_;  // its
  std::unique_ptr<Collective> collective_;
  // Ends the collective's operation when the epoch ends.
  std::optional<std::stop_callback<std::function<void()>>> abort_;
  absl::Status broken_;  // not OK: on_broken is due, or was called
  bool broken_told_ = false;
  StepId last_step_ = 0;
  absl::Status void_reason_;  // not OK: the epoch takes no more plans
  absl::Time progress_sent_ = absl::InfinitePast();

  mutable std::mutex residency_mutex_;
  ResidencyStats residency_;  // guarded by it

  std::atomic<bool> draining_{false};
  std::atomic<bool> waits_for_peers_{false};
  std::atomic<int64_t> last_progress_ns_{0};
};

}  // namespace pregate

// Who the workers are, and the formation of a cell out of them (docs/CONTRACTS.md, "Forming").
//
//   no worker ─▶ due ──Form──▶ forming ──all Formed──▶ formed
//                 ▲               │                      │
//                 └──── void ◀────┴──────────────────────┘   member lost or back, workers to add,
//                 refusal, silence, bad answer
//
// When it forms. From nothing: when all workers that the cell is configured with are up, or after
// form_wait. After a void: at once, with whoever is there. A worker that comes to a cell is added
// when that makes it complete, or after grow_wait; so one start of all costs at most one void
// epoch, however far apart they are.
//
// Who is left out. A process that is silent while others are not (worker_silence_timeout), until it
// is heard again. A loop that owes an answer and does not advance (worker_stall_timeout), unless
// all it does is wait for another one that is to blame. A worker that another scheduler holds,
// until it says Hello. And, while others are there, a member that ends epochs again and again (flap
// damping): who is lost for the third time within a minute, by whatever of these or by its end, or
// refuses a Form for a reason of its own, is taken in again when it has been well for a second,
// after the next loss two, and so on to readmit_wait_max.
//
// A Formed says by its code whose fault a failure is: ABORTED and UNAVAILABLE are the epoch's end
// or the peers', PERMISSION_DENIED another scheduler's, all others the worker's own.
//
// The group only watches. When an event makes the epoch void it says why; the engine then empties
// its own tables and calls Void, so that everything is forgotten in one place.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/step/control.h"
#include "scheduler_service/engine/links.h"
#include "scheduler_service/engine/options.h"
#include "scheduler_service/engine/scheduler_observer.h"

namespace pregate::scheduler {

// Not thread-safe. Links and observer outlive it.
class WorkerGroup {
 public:
  using VoidReason = std::optional<std::string>;

  WorkerGroup(const EngineOptions& options, std::vector<WorkerLink*> links,
              SchedulerObserver* observer);

  // A Hello that does not fit is refused with a log line, and its worker does not count as up.
  // `may_change_model`: no request depends on the facts.
  VoidReason OnHello(int32_t rank, const Hello& hello, bool may_change_model, absl::Time now);
  VoidReason OnDown(int32_t rank, const std::string& reason, absl::Time now);
  VoidReason OnFormed(int32_t rank, const Formed& formed, absl::Time now);
  // Any message: the process lives.
  void OnHeard(int32_t rank, const FromWorker& message, absl::Time now);
  // It works on the oldest step that it owes, or has answered it, or goes on forming. A heartbeat
  // alone is no such sign: its plan may be lost.
  void OnAdvance(int32_t rank, absl::Time now) { workers_[rank].advanced = now; }
  // Looks for members that are silent or stalled, and for workers to add. `owing`: members that owe
  // an answer since `since`.
  VoidReason OnTick(absl::Span<const int32_t> owing, absl::Time since, absl::Time now);

  // The next formation waits at least for `wait`.
  void Void(absl::Time now, absl::Duration wait = absl::ZeroDuration());
  // Sends Form when it is time.
  void FormIfDue(absl::Time now);
  // Tells the workers that the loop turns.
  void RenewIfDue(absl::Time now);
  // A step was answered well: the next formation need not wait.
  void OnStepAnswered() { num_futile_ = 0; }

  bool forming() const { return state_ == State::kForming; }
  bool formed() const { return state_ == State::kFormed; }
  Epoch epoch() const { return epoch_; }
  const std::vector<int32_t>& members() const { return members_; }
  const Placement& placement() const { return placement_; }  // of the members, by index
  bool IsMember(int32_t rank) const;
  bool IsUp(int32_t rank) const { return workers_[rank].up; }
  const Hello& HelloOf(int32_t rank) const { return workers_[rank].hello; }
  // Since when the rank's KV has been this scheduler's alone; 0: it does not say. REQUIRES: formed.
  Epoch KvSince(int32_t rank) const { return workers_[rank].kv_since; }
  void SendToMembers(StepPlan plan);

  // What the workers agree on, and the least of the members' sizes. Missing before the first Hello;
  // outlasts its workers.
  const std::optional<WorkerFacts>& facts() const { return facts_; }
  int32_t num_up() const;
  // Not empty: another scheduler holds every worker that is up; what one of them says.
  const std::string& held() const { return held_; }
  // When the member whose loop has been silent longest was last heard.
  absl::Time LastHeard() const;
  // When the loop has to wake for it; never where it is for a message to say.
  absl::Time NextForm() const {
    return state_ == State::kDue && !lacks_rendezvous_ ? DueTime() : absl::InfiniteFuture();
  }

 private:
  enum class State { kNoWorker, kDue, kForming, kFormed };
  struct Worker {
    WorkerLink* link = nullptr;
    bool up = false;
    // Left out as long as others are not.
    bool silent = false;       // the process gave no sign of life; until any message
    bool stalled = false;      // the loop did not advance; until one of its own
    bool held = false;         // by another scheduler
    bool damped = false;       // it was lost too often; until it has been well for ReadmitWait
    bool owes_formed = false;  // until then its rendezvous is used up
    bool answered = false;     // Formed of this epoch
    bool waits_for_peers = false;
    Epoch asked = 0;     // of the last Form that was sent
    Epoch kv_since = 0;  // of the last Formed
    Hello hello;
    std::string rendezvous;  // for the next group
    absl::Time since;        // when it could have become a member
    absl::Time alive;        // the process; `heard`: its loop
    absl::Time heard, advanced;
    int losses = 0;  // in a row, no two further apart than loss_window; outlasts incarnations
    absl::Time lost = absl::InfinitePast();  // when last
  };

  absl::Status CheckHello(int32_t rank, const Hello& hello, bool may_change_model) const;
  bool in_epoch() const { return state_ == State::kForming || state_ == State::kFormed; }
  bool Involved(int32_t rank) const { return in_epoch() && IsMember(rank); }
  // What speaks against it as a member; the least is asked first, and nobody who has none waits for
  // who has.
  enum class Doubt { kNone, kDamped, kMute, kHeld };
  static Doubt DoubtAbout(const Worker& worker) {
    if (worker.held) return Doubt::kHeld;
    if (worker.silent || worker.stalled) return Doubt::kMute;
    return worker.damped ? Doubt::kDamped : Doubt::kNone;
  }
  bool IsWell(const Worker& worker) const {
    return worker.up && DoubtAbout(worker) <= Doubt::kDamped;
  }
  bool IsCandidate(const Worker& worker) const {
    return worker.up && DoubtAbout(worker) == Doubt::kNone;
  }
  bool IsSilent(const Worker& worker, absl::Time now) const {
    return worker.hello.lease_ms > 0 && Since(worker.alive, now) >= options_.worker_silence_timeout;
  }
  absl::Time DueTime() const {
    return IsComplete() ? next_form_ : std::max(next_form_, gather_until_);
  }
  bool IsComplete() const;  // all configured workers are well
  void TakeEpoch(int32_t rank, Epoch highest);
  void OnHeld(Worker* worker, const std::string& why);
  // It has ended an epoch. `damp`: it waits whatever came before.
  void CountLoss(int32_t rank, absl::Time now, bool damp = false);
  absl::Duration ReadmitWait(const Worker& worker) const;
  void EndDamping(absl::Time now);
  VoidReason LeaveOutSilent(absl::Span<const int32_t> owing, absl::Time now);
  VoidReason LeaveOutStalled(absl::Span<const int32_t> owing, absl::Time since, absl::Time now);
  VoidReason Grow(absl::Time now) const;
  std::vector<int32_t> Unanswered() const;  // who owes a Formed that forming waits for
  void ChooseMembers();
  VoidReason LeaveOut(int32_t rank, absl::Time now);
  // Time in which this loop did not run is nobody's silence.
  absl::Duration Since(absl::Time then, absl::Time now) const {
    return now - std::max(then, awake_since_);
  }

  const EngineOptions options_;
  SchedulerObserver* const observer_;
  std::vector<Worker> workers_;  // by rank
  State state_ = State::kNoWorker;
  Epoch epoch_ = 0;
  Epoch highest_epoch_ = 0;
  std::vector<int32_t> members_;
  Placement placement_;
  std::optional<WorkerFacts> facts_;
  std::string held_;
  absl::Time next_form_ = absl::InfinitePast();
  absl::Time gather_until_ = absl::InfinitePast();  // from nothing, while workers are missing
  bool lacks_rendezvous_ = false;  // it would have formed, but for the lowest member's answer
  absl::Time form_sent_;
  absl::Time renewed_ = absl::InfinitePast();
  absl::Time last_tick_ = absl::InfinitePast();
  absl::Time awake_since_ = absl::InfinitePast();
  int num_futile_ = 0;  // formations since a step was answered well
};

}  // namespace pregate::scheduler

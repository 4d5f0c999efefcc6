// Who the workers are, and the formation of a cell out of them (DESIGN section 5, "Links" and
// "Recovery").
//
//   no worker ─▶ due ──Form──▶ forming ──all Formed──▶ formed
//                 ▲               │                      │
//                 └──── void ◀────┴──────────────────────┘   new Hello, worker down, refusal,
//                 silence, bad answer
//
// The group only watches. When an event makes the epoch void it says why; the engine then empties
// its own tables and calls Void, so that everything is forgotten in one place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/step/control.h"
#include "scheduler_service/engine/links.h"
#include "scheduler_service/engine/observer.h"
#include "scheduler_service/engine/options.h"

namespace pregate::scheduler {

// What every worker of the cell agrees on.
struct ModelFacts {
  std::string model_digest;
  std::string router_digest;  // of the workers' replicas
  std::string numerics_id;
  int32_t vocab_size = 0;
  int32_t num_experts = 0;
  bool operator==(const ModelFacts&) const = default;
};

// What every member can do: the least of each.
struct GroupLimits {
  int32_t kv_blocks = 0;
  int32_t seq_slots = 0;
  int32_t step_tokens = 0;
  int32_t context_tokens = 0;
};

// Not thread-safe. Links and observer outlive it.
class WorkerGroup {
 public:
  using VoidReason = std::optional<std::string>;

  WorkerGroup(const EngineOptions& options, std::vector<WorkerLink*> links,
              EngineObserver* observer);

  // A Hello that does not fit is refused with a log line, and its worker does not count as up.
  // `may_change_model`: no request depends on the facts.
  VoidReason OnHello(int32_t rank, const Hello& hello, bool may_change_model, absl::Time now);
  VoidReason OnDown(int32_t rank, const std::string& reason);
  VoidReason OnFormed(int32_t rank, const Formed& formed);
  // Any message: the worker is alive.
  VoidReason OnHeard(int32_t rank, absl::Time now);
  // It works on the oldest step that it owes, or has answered it. A heartbeat alone is no such
  // sign: its plan may be lost.
  void OnAdvance(int32_t rank, absl::Time now) { workers_[rank].advanced = now; }
  // No advance of members that owe an answer since `since`, or no Formed.
  VoidReason OnTick(absl::Span<const int32_t> owing, absl::Time since, absl::Time now);

  void Void(absl::Time now);
  // Sends Form when it is time.
  void FormIfDue(absl::Time now);
  // A step was answered well: the next formation need not wait.
  void OnStepAnswered() { num_futile_ = 0; }

  bool formed() const { return state_ == State::kFormed; }
  Epoch epoch() const { return epoch_; }
  const std::vector<int32_t>& members() const { return members_; }
  const Placement& placement() const { return placement_; }  // of the members, by index
  bool IsMember(int32_t rank) const;
  bool IsUp(int32_t rank) const { return workers_[rank].up; }
  const Hello& HelloOf(int32_t rank) const { return workers_[rank].hello; }
  void SendToMembers(const StepPlan& plan);

  // Missing before the first Hello. Both outlast their workers.
  const std::optional<ModelFacts>& facts() const { return facts_; }
  const GroupLimits& limits() const { return limits_; }
  int32_t num_up() const;
  // When the member that has been silent longest was last heard.
  absl::Time LastHeard() const;
  absl::Time NextForm() const {
    return state_ == State::kDue ? next_form_ : absl::InfiniteFuture();
  }

 private:
  enum class State { kNoWorker, kDue, kForming, kFormed };
  struct Worker {
    WorkerLink* link = nullptr;
    bool up = false;
    bool silent = false;    // stalled; left out as long as others answer
    bool answered = false;  // Formed of this epoch
    Hello hello;
    std::string rendezvous;  // for the next group
    absl::Time heard, advanced;
  };

  absl::Status CheckHello(int32_t rank, const Hello& hello, const ModelFacts& facts,
                          bool may_change_model) const;
  bool Involved(int32_t rank) const;  // in an epoch that a change would make void
  void ChooseMembers();
  VoidReason Silence(int32_t rank, absl::Time now);

  const EngineOptions options_;
  EngineObserver* const observer_;
  std::vector<Worker> workers_;  // by rank
  State state_ = State::kNoWorker;
  Epoch epoch_ = 0;
  Epoch highest_epoch_ = 0;
  std::vector<int32_t> members_;
  Placement placement_;
  std::optional<ModelFacts> facts_;
  GroupLimits limits_;
  absl::Time next_form_ = absl::InfinitePast();
  absl::Time form_sent_;
  int num_futile_ = 0;  // formations since a step was answered well
};

}  // namespace pregate::scheduler

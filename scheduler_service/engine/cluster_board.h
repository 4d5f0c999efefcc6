// What the engine shows of the cluster to people who look on.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/base/gateway_limits.h"
#include "common/step/control.h"
#include "scheduler_service/core/step_history.h"
#include "scheduler_service/engine/scheduler_observer.h"

namespace pregate {

struct WorkerStanding {
  bool up = false;
  bool member = false;  // of the cell
  std::string device;   // empty: it has never been attached
  int32_t unit_slots = 0;
  std::vector<UnitState> units;  // [layer x expert]; empty: it has none
  scheduler::UnitTally tally;    // since the scheduler's start
};

struct ClusterStanding {
  bool serving = false;
  Epoch epoch = 0;
  EngineGauges gauges;
  std::vector<WorkerStanding> workers;       // by rank
  std::vector<scheduler::StepRecord> steps;  // oldest first, at most kStepsShownMax
};

// Written by the engine's thread, read by any.
class ClusterBoard {
 public:
  explicit ClusterBoard(size_t num_workers) : tallies_(num_workers) {}

  // `workers` by rank; their tallies are what AddAnswer collects.
  void SetWorkers(bool serving, Epoch epoch, std::vector<WorkerStanding> workers) {
    absl::MutexLock lock(&mutex_);
    standing_.serving = serving;
    standing_.epoch = epoch;
    standing_.workers = std::move(workers);
  }
  void SetGauges(const EngineGauges& gauges) {
    absl::MutexLock lock(&mutex_);
    standing_.gauges = gauges;
  }
  void AddAnswer(int32_t rank, const scheduler::UnitTally& units) {
    absl::MutexLock lock(&mutex_);
    scheduler::UnitTally& tally = tallies_[rank];
    tally.hits += units.hits;
    tally.misses += units.misses;
    tally.stall_us += units.stall_us;
  }
  void AddStep(scheduler::StepRecord step) {
    absl::MutexLock lock(&mutex_);
    history_.Add(std::move(step));
  }

  ClusterStanding Read() const {
    absl::MutexLock lock(&mutex_);
    ClusterStanding standing = standing_;
    for (size_t rank = 0; rank < standing.workers.size(); ++rank) {
      standing.workers[rank].tally = tallies_[rank];
    }
    standing.steps = history_.steps();
    return standing;
  }

 private:
  mutable absl::Mutex mutex_;
  ClusterStanding standing_ ABSL_GUARDED_BY(mutex_);
  std::vector<scheduler::UnitTally> tallies_ ABSL_GUARDED_BY(mutex_);  // by rank
  scheduler::StepHistory history_ ABSL_GUARDED_BY(mutex_){kStepsShownMax};
};

}  // namespace pregate

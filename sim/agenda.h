// Virtual time: what is planned runs in order of (time, order of planning), and the engine's loop
// waits here.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "common/base/clock.h"
#include "scheduler_service/engine/links.h"

namespace pregate::sim {

// Not thread-safe.
class Agenda final : public Inbox {
 public:
  std::vector<EngineEvent> Wait(absl::Time deadline) override;

  void At(absl::Time time, std::function<void()> action);
  void After(absl::Duration delay, std::function<void()> action) {
    At(clock_.Now() + delay, std::move(action));
  }
  // Runs the next planned action, if one is due by `until`; false: none is.
  bool RunNext(absl::Time until);
  // The loop sees it when it waits next.
  void Deliver(EngineEvent event) { inbox_.push_back(std::move(event)); }
  void DeliverAt(absl::Time time, EngineEvent event) {
    At(time, [this, e = std::move(event)]() mutable { Deliver(std::move(e)); });
  }

  ManualClock* clock() { return &clock_; }
  absl::Time now() { return clock_.Now(); }

 private:
  struct Planned {
    absl::Time time;
    uint64_t number;
    std::function<void()> action;
    bool operator<(const Planned& other) const {
      return time != other.time ? time > other.time : number > other.number;
    }
  };

  ManualClock clock_;
  std::priority_queue<Planned> planned_;
  uint64_t next_number_ = 0;
  std::vector<EngineEvent> inbox_;
};

}  // namespace pregate::sim

// Time is injected: production code takes a Clock, tests and the simulator supply a manual one.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate {

// Thread-safe. Now() never runs backwards.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;
};

// Monotonic time, expressed as an absl::Time anchored at the process's start.
class SystemClock final : public Clock {
 public:
  SystemClock();
  absl::Time Now() override;

 private:
  absl::Time wall_start_;
  int64_t monotonic_start_ns_;
};

// Set by hand. Not thread-safe: for single-threaded tests and simulation.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(absl::Time start = absl::UnixEpoch()) : now_(start) {}
  absl::Time Now() override { return now_; }
  void Advance(absl::Duration d) { now_ += d; }
  void Set(absl::Time t) { now_ = t; }

 private:
  absl::Time now_;
};

}  // namespace pregate

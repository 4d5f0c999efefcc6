// What a unit's load costs beside a step, learnt while serving.
#pragma once

#include <cstdint>

namespace pregate::scheduler {

// The least that was seen lately, since what comes on top (waiting, other loads, prefill) is no part
// of it: a step's time over the units that arrived in it bounds a load from above, tightly where the
// step waited for them. What was seen loses 1% of its claim with each step. Not thread-safe.
class LoadCost {
 public:
  // A step of decode rows alone, or (`has_prefill`) not.
  void Observe(double step_us, int32_t units_arrived, bool has_prefill);

  // Would a decode step hide the load of so many units? False until both were seen.
  bool IsHidden(int32_t units) const {
    return unit_us_ > 0 && step_us_ > 0 && units * unit_us_ <= step_us_;
  }
  double unit_us() const { return unit_us_; }
  double step_us() const { return step_us_; }

 private:
  double unit_us_ = 0, step_us_ = 0;
};

}  // namespace pregate::scheduler

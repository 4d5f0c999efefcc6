// What long operations call so that others see them move.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

namespace pregate {

// Called after each loaded part with parts done and parts in all; false stops the load.
using LoadProgress = std::function<bool(int done, int total)>;

// Between the threads that load and the one that looks on.
struct LoadMeter {
  std::atomic<int64_t> rows{0};         // read so far: that it grows shows that it moves
  std::atomic<bool> is_stopped{false};  // what was begun is not wanted any more
};

// Called after each layer of a step (once where a device runs all at once) and each batch of logits
// rows; false stops the step.
using StepProgress = std::function<bool()>;

}  // namespace pregate

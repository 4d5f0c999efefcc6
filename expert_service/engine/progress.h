// What long operations call so that others see them move.
#pragma once

#include <functional>

namespace pregate {

// Called after each loaded part with parts done and parts in all; false stops the load.
using LoadProgress = std::function<bool(int done, int total)>;

// Called after each layer of a step (once where a device runs all at once) and each batch of logits
// rows; false stops the step.
using StepProgress = std::function<bool()>;

}  // namespace pregate

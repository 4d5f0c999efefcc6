// What long operations call so that others see them move.
#pragma once

#include <functional>

namespace pregate {

// Called after each loaded part with parts done and parts in all.
using LoadProgress = std::function<void(int done, int total)>;

// Called after each layer of a step; false stops the step.
using LayerProgress = std::function<bool()>;

}  // namespace pregate

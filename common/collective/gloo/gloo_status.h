// Gloo throws; this is the one place that catches (DESIGN section 9).
#pragma once

#include <exception>

#include "absl/status/status.h"

namespace pregate {

// The exception as a Status with Gloo's text: DEADLINE_EXCEEDED for its timeouts, UNAVAILABLE for
// every other failure of a connection. `doing` says what was tried.
absl::Status GlooStatus(const std::exception& error, const char* doing);

// Runs `body`, which returns a Status and may throw.
template <typename Body>
absl::Status CatchGloo(const char* doing, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    return GlooStatus(error, doing);
  }
}

}  // namespace pregate

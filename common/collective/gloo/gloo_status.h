// Gloo throws; this is the one place that catches (docs/CONTRACTS.md, "Limits and conduct").
#pragma once

#include <exception>

#include "absl/status/status.h"
#include "common/base/sigpipe_block.h"

namespace pregate {

// The exception as a Status with Gloo's text: DEADLINE_EXCEEDED for its timeouts, UNAVAILABLE for
// every other failure of a connection. `doing` says what was tried.
absl::Status GlooStatus(const std::exception& error, const char* doing);

// Runs `body`, which returns a Status and may throw or write to a closed connection. Every call
// into Gloo that does I/O or starts its thread goes through here.
template <typename Body>
absl::Status CatchGloo(const char* doing, Body body) {
  const SigpipeBlock no_sigpipe;
  try {
    return body();
  } catch (const std::exception& error) {
    return GlooStatus(error, doing);
  }
}

}  // namespace pregate

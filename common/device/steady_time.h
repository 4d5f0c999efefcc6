// The host's steady clock, from which every device tells when its operations ran.
#pragma once

#include <chrono>

#include "absl/time/time.h"

namespace pregate {

// Its zero means nothing.
inline absl::Time SteadyNow() {
  return absl::UnixEpoch() + absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace pregate

#include "common/base/clock.h"

#include <chrono>

namespace pregate {
namespace {

int64_t MonotonicNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

SystemClock::SystemClock() : wall_start_(absl::Now()), monotonic_start_ns_(MonotonicNs()) {}

absl::Time SystemClock::Now() {
  return wall_start_ + absl::Nanoseconds(MonotonicNs() - monotonic_start_ns_);
}

}  // namespace pregate

#include "common/telemetry/request_lines.h"

#include <cmath>
#include <utility>

#include "common/base/limits.h"

namespace pregate {

bool RequestLines::Take(absl::Time now, int64_t* left_out) {
  absl::MutexLock lock(&mutex_);
  if (now - second_ >= absl::Seconds(1)) {
    second_ = now;
    lines_ = 0;
  }
  if (lines_ == kRequestLinesMax) {
    ++left_out_;
    return false;
  }
  ++lines_;
  *left_out = std::exchange(left_out_, 0);
  return true;
}

double RequestLines::Milliseconds(absl::Duration d) {
  return std::round(absl::ToDoubleMilliseconds(d) * 10) / 10;
}

std::string RequestLines::Reason(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? "" : std::string(status.message());
}

}  // namespace pregate

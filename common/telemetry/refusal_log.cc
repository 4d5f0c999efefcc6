#include "common/telemetry/refusal_log.h"

#include <utility>

#include "common/config/limits.h"

namespace pregate {

void RefusalLog::Add(absl::string_view where, absl::string_view reason) {
  int64_t suppressed = 0;
  {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = clock_->Now();
    if (now - window_ >= absl::Milliseconds(kRefusalWindowMs)) {
      window_ = now;
      lines_ = 0;
    }
    if (lines_ >= kRefusalLinesMax) {
      ++suppressed_;
      return;
    }
    ++lines_;
    suppressed = std::exchange(suppressed_, 0);
  }
  log_->Warn(message_, {{"at", where}, {"reason", reason}, {"not_logged", suppressed}});
}

}  // namespace pregate

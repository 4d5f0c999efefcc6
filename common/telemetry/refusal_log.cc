#include "common/telemetry/refusal_log.h"

#include <utility>

#include "common/base/limits.h"

namespace pregate {

void RefusalLog::Add(absl::string_view where, absl::string_view reason) {
  absl::MutexLock lock(&mutex_);
  if (log_ == nullptr) return;
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
  log_->Warn(message_,
             {{"at", where}, {"reason", reason}, {"not_logged", std::exchange(suppressed_, 0)}});
}

void RefusalLog::Stop() {
  absl::MutexLock lock(&mutex_);
  log_ = nullptr;
}

}  // namespace pregate

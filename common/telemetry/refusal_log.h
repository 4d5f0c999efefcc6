// Log lines that a hostile peer can cause at will, held to a rate: the first kRefusalLinesMax of a
// window are written, the rest are counted in the next line.
#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/telemetry/log.h"

namespace pregate {

// Thread-safe; never blocks for long.
class RefusalLog {
 public:
  // `log` and `clock` outlive it. `message` is each line's.
  RefusalLog(const Log* log, Clock* clock, const char* message = "peer refused")
      : log_(log), clock_(clock), message_(message) {}

  // One warning, with where ("grpc server", "https") and the reason.
  void Add(absl::string_view where, absl::string_view reason);

 private:
  const Log* const log_;
  Clock* const clock_;
  const char* const message_;
  absl::Mutex mutex_;
  absl::Time window_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t suppressed_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pregate

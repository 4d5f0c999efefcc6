// What the lines about single requests have in common, whichever port the requests came by.
#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace pregate {

// Room for kRequestLinesMax lines a second. Thread-safe.
class RequestLines {
 public:
  // Whether there is room for a line at `now`; then also how many were left out before it.
  bool Take(absl::Time now, int64_t* left_out);

  // In ms, with one digit behind the point.
  static double Milliseconds(absl::Duration d);
  // The status' message, but for what a client did wrong: that may quote what it sent, which no log
  // holds.
  static std::string Reason(const absl::Status& status);

 private:
  absl::Mutex mutex_;
  absl::Time second_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pregate

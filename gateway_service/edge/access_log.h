// One line for each generation that was asked for over HTTP, when it is over.
#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/telemetry/log.h"
#include "gateway_service/edge/generation_exchange.h"

namespace pregate::gateway {

// At most kRequestLinesMax lines a second: the rest are counted in the next line. Thread-safe.
class AccessLog {
 public:
  explicit AccessLog(const Log* log) : log_(log) {}

  struct Who {
    std::string route, id, tenant, traceparent;
  };
  void Add(const Who& who, const ExchangeOutcome& outcome);

 private:
  bool Take(int64_t* left_out);

  const Log* const log_;
  absl::Mutex mutex_;
  absl::Time second_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  int lines_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace pregate::gateway

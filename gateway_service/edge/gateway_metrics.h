// The gateway's metrics (docs/METRICS.md).
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/telemetry/metrics.h"
#include "gateway_service/edge/scheduler_pool.h"

namespace pregate::gateway {

// Thread-safe.
class GatewayMetrics {
 public:
  // `registry` outlives it.
  explicit GatewayMetrics(MetricsRegistry* registry);

  void NoteSchedulers(const std::vector<SchedulerPool::State>& states);

  // `route` is one of the table's, or "other": a client cannot make series.
  void CountRequest(const std::string& route, int http_status);
  void CountBytes(size_t received, size_t sent);
  void CountConnections(int change) { connections_.Increment(change); }
  void CountStreams(int change) { streams_.Increment(change); }
  void NoteFirstToken(absl::Duration since_request);

 private:
  Counter& CounterOf(const std::string& route, int http_status);

  MetricsRegistry* const registry_;
  Gauge& connections_;
  Gauge& streams_;
  Counter& received_;
  Counter& sent_;
  Histogram& ttft_;
  absl::Mutex mutex_;
  std::map<std::pair<std::string, int>, Counter*> requests_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate::gateway

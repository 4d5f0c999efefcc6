// What the router's engine tells about itself, for metrics and logs.
#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "common/telemetry/log.h"
#include "common/telemetry/trace_log.h"

namespace pregate {

struct RouterGauges {
  int32_t requests = 0;  // taken and not answered
  int32_t sessions = 0;
  int64_t session_tokens = 0;
  double kv_usage_ratio = 0;
  // Since the start.
  int64_t evictions = 0;
  int64_t expirations = 0;
  bool operator==(const RouterGauges&) const = default;
};

// Called from the engine's thread, OnLinks from any; must not block. Every callback may be left out.
class RouterObserver : public EngineObserver {
 public:
  virtual void OnLinks(int32_t num_links) {}                           // streams that are attached
  virtual void OnAnswer(absl::Duration since_taken) {}                 // a request's
  virtual void OnTraced(const TracedWork& work) {}                     // that answer's, of a trace
  virtual void OnGap() {}                                              // that answer was a GAP
  virtual void OnError() {}                                            // a request was malformed
  virtual void OnStep(absl::Duration duration, int32_t num_tokens) {}  // one pass of the network
  virtual void OnGauges(const RouterGauges& gauges) {}                 // when one has changed
};

}  // namespace pregate

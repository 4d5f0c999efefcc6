// What the router counts (docs/METRICS.md). Names start with `router_` where another service has
// a like one, so that all services can share one registry in one process.
#pragma once

#include "common/telemetry/metrics.h"

namespace pregate {

struct RouterMetrics {
  explicit RouterMetrics(MetricsRegistry& registry, int step_tokens_max);

  Histogram& route_seconds;  // request taken to answer made
  Histogram& step_seconds;
  Histogram& step_tokens;
  Counter& tokens_total;
  Counter& gaps_total;
  Counter& errors_total;
  Counter& evictions_total;
  Counter& expirations_total;
  Gauge& connections;
  Gauge& requests;  // taken and not answered
  Gauge& sessions;
  Gauge& session_tokens;
  Gauge& kv_usage_ratio;
};

}  // namespace pregate

#include "router_service/engine/router_metrics.h"

namespace pregate {

RouterMetrics::RouterMetrics(MetricsRegistry& registry, int step_tokens_max)
    : route_seconds(registry.AddHistogram(
          "router_route_seconds", "Route request taken to answer made", ShortLatencyBuckets())),
      step_seconds(registry.AddHistogram("router_step_seconds", "One pass of the router's network",
                                         ShortLatencyBuckets())),
      step_tokens(registry.AddHistogram("router_step_tokens",
                                        "Tokens in one pass of the router's network",
                                        PowerOfTwoBuckets(step_tokens_max))),
      tokens_total(registry.AddCounter("router_tokens_total", "Tokens routed")),
      gaps_total(registry.AddCounter("router_gaps_total",
                                     "Requests whose base was beyond what the session had")),
      errors_total(registry.AddCounter("router_errors_total", "Requests answered with an error")),
      evictions_total(
          registry.AddCounter("router_session_evictions_total", "Sessions evicted to make room")),
      expirations_total(
          registry.AddCounter("router_session_expirations_total", "Sessions idle for too long")),
      connections(registry.AddGauge("router_connections", "Open Route streams")),
      requests(registry.AddGauge("router_requests", "Requests taken and not answered")),
      sessions(registry.AddGauge("router_sessions", "Sessions with keys and values")),
      session_tokens(registry.AddGauge("router_session_tokens", "Tokens with keys and values")),
      kv_usage_ratio(
          registry.AddGauge("router_kv_usage_ratio", "KV blocks in use, evictable ones too")) {}

}  // namespace pregate

#include "router_service/engine/router_metrics.h"

namespace pregate {

RouterMetrics::RouterMetrics(MetricsRegistry* registry, const Log* log, int step_tokens_max,
                             SpanSink* spans)
    : log_(log),
      traces_("routed", log, spans),
      route_seconds_(registry->AddHistogram(
          "router_route_seconds", "Route request taken to answer made", ShortLatencyBuckets())),
      step_seconds_(registry->AddHistogram(
          "router_step_seconds", "One pass of the router's network", ShortLatencyBuckets())),
      step_tokens_(registry->AddHistogram("router_step_tokens",
                                          "Tokens in one pass of the router's network",
                                          PowerOfTwoBuckets(step_tokens_max))),
      tokens_total_(registry->AddCounter("router_tokens_total", "Tokens routed")),
      gaps_total_(registry->AddCounter("router_gaps_total",
                                       "Requests whose base was beyond what the session had")),
      errors_total_(registry->AddCounter("router_errors_total", "Requests answered with an error")),
      evictions_total_(
          registry->AddCounter("router_session_evictions_total", "Sessions evicted to make room")),
      expirations_total_(
          registry->AddCounter("router_session_expirations_total", "Sessions idle for too long")),
      links_(registry->AddGauge("router_links", "Route streams that are attached")),
      requests_(registry->AddGauge("router_requests", "Requests taken and not answered")),
      sessions_(registry->AddGauge("router_sessions", "Sessions with keys and values")),
      session_tokens_(registry->AddGauge("router_session_tokens", "Tokens with keys and values")),
      kv_usage_ratio_(
          registry->AddGauge("router_kv_usage_ratio", "KV blocks in use, evictable ones too")) {}

void RouterMetrics::OnAnswer(absl::Duration since_taken) {
  route_seconds_.Observe(absl::ToDoubleSeconds(since_taken));
}

void RouterMetrics::OnStep(absl::Duration duration, int32_t num_tokens) {
  step_seconds_.Observe(absl::ToDoubleSeconds(duration));
  step_tokens_.Observe(num_tokens);
  tokens_total_.Increment(num_tokens);
}

void RouterMetrics::OnGauges(const RouterGauges& gauges) {
  requests_.Set(gauges.requests);
  sessions_.Set(gauges.sessions);
  session_tokens_.Set(static_cast<double>(gauges.session_tokens));
  kv_usage_ratio_.Set(gauges.kv_usage_ratio);
  evictions_total_.Increment(static_cast<double>(gauges.evictions - counted_.evictions));
  expirations_total_.Increment(static_cast<double>(gauges.expirations - counted_.expirations));
  counted_ = gauges;
}

}  // namespace pregate

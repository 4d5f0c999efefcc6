// What the router tells Prometheus and its log (docs/METRICS.md). Names start with `router_` where
// another service has a like one, so that all services can share one registry in one process.
#pragma once

#include "common/telemetry/metrics.h"
#include "router_service/engine/router_observer.h"

namespace pregate {

// Thread-safe.
class RouterMetrics final : public RouterObserver {
 public:
  // All outlive the metrics. `step_tokens_max`: of one pass of the network; `spans`: null where nobody
  // collects them.
  RouterMetrics(MetricsRegistry* registry, const Log* log, int step_tokens_max,
                SpanSink* spans = nullptr);

  void OnLog(LogLevel level, absl::string_view message, Log::Fields fields) override {
    log_->Write(level, message, fields);
  }
  void OnLinks(int32_t num_links) override { links_.Set(num_links); }
  void OnAnswer(absl::Duration since_taken) override;
  void OnTraced(const TracedWork& work) override { traces_.Add(work); }
  void OnGap() override { gaps_total_.Increment(); }
  void OnError() override { errors_total_.Increment(); }
  void OnStep(absl::Duration duration, int32_t num_tokens) override;
  void OnGauges(const RouterGauges& gauges) override;

 private:
  const Log* const log_;
  TraceLog traces_;
  Histogram& route_seconds_;  // request taken to answer made
  Histogram& step_seconds_;
  Histogram& step_tokens_;
  Counter& tokens_total_;
  Counter& gaps_total_;
  Counter& errors_total_;
  Counter& evictions_total_;
  Counter& expirations_total_;
  Gauge& links_;
  Gauge& requests_;
  Gauge& sessions_;
  Gauge& session_tokens_;
  Gauge& kv_usage_ratio_;
  RouterGauges counted_;
};

}  // namespace pregate

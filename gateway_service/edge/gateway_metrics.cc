#include "gateway_service/edge/gateway_metrics.h"

#include "absl/strings/str_cat.h"

namespace pregate::gateway {

GatewayMetrics::GatewayMetrics(MetricsRegistry* registry)
    : registry_(registry),
      connections_(registry->AddGauge("gateway_connections", "HTTP connections that are open")),
      streams_(registry->AddGauge("gateway_open_streams", "Streamed answers that have begun")),
      received_(registry->AddCounter("gateway_received_bytes_total", "Bodies of requests")),
      sent_(registry->AddCounter("gateway_sent_bytes_total", "Answers, their heads included")),
      ttft_(registry->AddHistogram("gateway_time_to_first_token_seconds",
                                   "From a request's last byte to its first token here",
                                   LatencyBuckets())) {
  // There from the start: a rate is of what was zero before.
  for (const int status : {200, 401, 429, 503}) CounterOf("/v1/chat/completions", status);
}

void GatewayMetrics::NoteSchedulers(const std::vector<SchedulerPool::State>& states) {
  for (const SchedulerPool::State& state : states) {
    registry_
        ->AddGauge("gateway_scheduler_up", "1 while the scheduler is ready",
                   {{"scheduler", state.name}})
        .Set(state.ready ? 1 : 0);
    registry_
        ->AddGauge("gateway_scheduler_requests", "Requests of ours that the scheduler has",
                   {{"scheduler", state.name}})
        .Set(static_cast<double>(state.outstanding));
  }
}

Counter& GatewayMetrics::CounterOf(const std::string& route, int http_status) {
  absl::MutexLock lock(&mutex_);
  Counter*& counter = requests_[{route, http_status}];
  if (counter == nullptr) {
    counter = &registry_->AddCounter("gateway_requests_total", "Answers by route and HTTP status",
                                     {{"route", route}, {"status", absl::StrCat(http_status)}});
  }
  return *counter;
}

void GatewayMetrics::CountRequest(const std::string& route, int http_status) {
  CounterOf(route, http_status).Increment();
}

void GatewayMetrics::CountBytes(size_t received, size_t sent) {
  if (received > 0) received_.Increment(static_cast<double>(received));
  if (sent > 0) sent_.Increment(static_cast<double>(sent));
}

void GatewayMetrics::NoteFirstToken(absl::Duration since_request) {
  ttft_.Observe(absl::ToDoubleSeconds(since_request));
}

}  // namespace pregate::gateway

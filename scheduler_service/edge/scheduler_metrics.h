// The scheduler's metrics (docs/METRICS.md) and log lines, and the workers' facts for GetModelInfo.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "scheduler_service/edge/inference_codec.h"
#include "scheduler_service/engine/scheduler_observer.h"

namespace pregate {

// SchedulerObserver's calls come from the engine's thread; facts() may be read from any.
class SchedulerMetrics final : public SchedulerObserver {
 public:
  // Both outlive it. `num_experts` 0: dense, no per-expert series.
  SchedulerMetrics(MetricsRegistry* registry, const Log* log, int num_experts);

  // What the cell says; empty until one has formed.
  WorkerFacts facts() const;

  // A request that never reached the engine. Any thread.
  void CountRefusal(const absl::Status& status);
  // From the streams, on the engine's thread.
  void CountPrompt(const StartInfo& info);
  void CountTokens(const TokensOut& out);

  void OnLog(LogLevel level, absl::string_view message, Log::Fields fields) override {
    log_->Write(level, message, fields);
  }
  void OnFormed(Epoch epoch, const WorkerFacts& cell) override;
  void OnRecovery(const std::string& reason) override;
  void OnStep(const StepReport& report) override;
  void OnPreempted(int64_t num_sequences) override;
  void OnPrefix(int64_t num_tokens, int64_t num_found) override;
  void OnRouted(absl::Duration duration, int32_t num_tokens) override;
  void OnFirstToken(absl::Duration since_accept) override;
  void OnNextTokens(absl::Duration since_last, int64_t num_tokens) override;
  void OnDone(const DoneInfo& info) override;
  void OnGauges(const EngineGauges& gauges) override;

 private:
  void CountRoutes(const std::vector<ExpertId>& routes);
  void CountRequest(const std::string& finish_reason);

  MetricsRegistry* const registry_;
  const Log* const log_;

  Histogram& ttft_;
  Histogram& itl_;
  Histogram& e2e_;
  Histogram& queue_time_;
  Histogram& route_time_;
  Histogram& step_duration_;
  Histogram& step_round_trip_;
  Histogram& step_tokens_;
  Histogram& step_unique_experts_;
  Gauge& running_;
  Gauge& waiting_;
  Gauge& kv_usage_;
  Gauge& kv_cached_;
  Gauge& routed_ahead_;
  Gauge& reuse_;
  Gauge& optimal_reuse_;
  Gauge* const router_up_;  // null when dense: there is no router
  Counter& prompt_tokens_;
  Counter& generation_tokens_;
  Counter& draft_tokens_;
  Counter& accepted_tokens_;
  Counter& prefix_queries_;
  Counter& prefix_hits_;
  Counter& prefix_evictions_;
  int64_t evictions_counted_ = 0;
  Counter& preemptions_;
  Counter& recoveries_;
  std::map<std::string, Counter*> requests_;  // by finish reason; all of them, from the start
  std::vector<Counter*> expert_tokens_;       // [expert]
  std::vector<Gauge*> workers_up_;            // [rank]

  mutable absl::Mutex mutex_;
  WorkerFacts facts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace pregate

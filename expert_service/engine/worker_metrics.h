// What a worker tells Prometheus and its log: its steps, stalls, exchange and memory.
#pragma once

#include "common/telemetry/metrics.h"
#include "expert_service/engine/worker_observer.h"

namespace pregate {

// Every series has the label `rank`, so that the workers of one process share a registry.
// Thread-safe.
class WorkerMetrics final : public WorkerObserver {
 public:
  // All outlive the metrics, and these the registry's last Serialize. `spans`: null where nobody
  // collects them.
  WorkerMetrics(MetricsRegistry* registry, const Log* log, int32_t rank, SpanSink* spans = nullptr);

  void OnLog(LogLevel level, absl::string_view message, Log::Fields fields) override {
    log_->Write(level, message, fields);
  }
  void OnMemory(const MemoryPlan& plan) override;
  void OnLinks(int32_t num_links) override { links_.Set(num_links); }
  void OnStep(const StepResult& result, const StepTimes& times) override;
  void OnTraced(const TracedWork& work) override { traces_.Add(work); }
  void OnResidency(const ResidencyStats& now) override;

 private:
  MetricsRegistry* const registry_;
  const Log* const log_;
  TraceLog traces_;
  const MetricLabels rank_;
  Gauge& links_;
  Histogram& step_seconds_;
  Histogram& replica_seconds_;
  Histogram& exchange_seconds_;
  Counter& exchange_bytes_sent_;
  Counter& exchange_bytes_received_;
  Counter& tokens_;
  Counter& failed_steps_;
  Counter& row_errors_;
  Counter& stall_seconds_;
  Counter& late_stall_seconds_;
  Counter& unit_hits_;
  Counter& unit_misses_;
  Counter& unit_late_prefetches_;
  Counter& unit_evictions_;
  Counter& unit_loads_;
  Counter& demand_bytes_;
  Counter& ahead_bytes_;
  Gauge& resident_units_;
  Gauge& resident_bytes_;
  Gauge& slots_;
  ResidencyStats counted_;  // by OnResidency, which one thread calls
};

}  // namespace pregate

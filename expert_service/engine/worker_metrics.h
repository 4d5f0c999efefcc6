// What a worker tells Prometheus: its steps, stalls, exchange and memory.
#pragma once

#include <functional>

#include "common/step/result.h"
#include "common/telemetry/metrics.h"
#include "expert_service/engine/memory_plan.h"
#include "expert_service/engine/residency_stats.h"
#include "expert_service/engine/worker_port.h"

namespace pregate {

// Passes everything on to `port` and counts the results that come back. Every series has the label
// `rank`, so that the workers of one process share a registry. Thread-safe.
class WorkerMetrics final : public WorkerPort {
 public:
  // `residency` is asked by every exposition and must be thread-safe. Port, registry and what it
  // touches outlive the metrics, and these the registry's last Serialize.
  WorkerMetrics(WorkerPort* port, MetricsRegistry* registry, int32_t rank, const MemoryPlan& plan,
                std::function<ResidencyStats()> residency);

  LinkId Attach(WorkerLinks::Send send) override;
  bool Submit(LinkId link, ToWorker message) override;
  void Disconnected(LinkId link) override;
  LinkId holder() const override { return port_->holder(); }

 private:
  void SetMemory(MetricsRegistry* registry, const MemoryPlan& plan);
  void Observe(const StepResult& result);
  void SetResidency(const ResidencyStats& now);

  WorkerPort* const port_;
  const MetricLabels rank_;
  Gauge& attached_;
  Histogram& step_seconds_;
  Histogram& replica_seconds_;
  Histogram& exchange_seconds_;
  Counter& exchange_bytes_sent_;
  Counter& exchange_bytes_received_;
  Counter& tokens_;
  Counter& failed_steps_;
  Counter& row_errors_;
  Counter& stall_seconds_;
  Counter& unit_hits_;
  Counter& unit_misses_;
  Counter& unit_late_prefetches_;
  Counter& unit_evictions_;
  Counter& unit_loads_;
  Gauge& resident_units_;
  Gauge& resident_bytes_;
  Gauge& slots_;
  ResidencyStats counted_;  // of an exposition, one at a time
};

}  // namespace pregate

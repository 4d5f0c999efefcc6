// What a worker's process tells Prometheus: its steps, stalls and memory.
#pragma once

#include "common/step/result.h"
#include "common/telemetry/metrics.h"
#include "expert_service/engine/worker_port.h"

namespace pregate {

// Passes everything on to `port` and counts the results that come back. Thread-safe.
class WorkerMetrics final : public WorkerPort {
 public:
  // Both outlive it.
  WorkerMetrics(WorkerPort* port, MetricsRegistry* registry);

  // Sets the memory gauges.
  void SetMemory(const MemoryPlan& plan);

  LinkId Attach(Worker::Send send) override;
  bool Submit(LinkId link, ToWorker message) override;
  void Disconnected(LinkId link) override;

 private:
  void Observe(const StepResult& result);

  WorkerPort* const port_;
  MetricsRegistry* const registry_;
  Gauge& attached_;
  Histogram& step_seconds_;
  Histogram& replica_seconds_;
  Counter& tokens_;
  Counter& failed_steps_;
  Counter& row_errors_;
  Counter& stall_seconds_;
  Counter& unit_hits_;
  Counter& unit_misses_;
  Counter& unit_late_prefetches_;
  Counter& unit_evictions_;
};

}  // namespace pregate

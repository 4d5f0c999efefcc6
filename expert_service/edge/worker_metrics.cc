#include "expert_service/edge/worker_metrics.h"

#include <utility>

namespace pregate {
namespace {

constexpr double kSecondsPerUs = 1e-6;

}  // namespace

WorkerMetrics::WorkerMetrics(WorkerPort* port, MetricsRegistry* registry)
    : port_(port),
      registry_(registry),
      attached_(registry->AddGauge("worker_links", "Scheduler streams that are attached")),
      step_seconds_(registry->AddHistogram("worker_step_seconds",
                                           "A step on this worker: plan taken to result made",
                                           LatencyBuckets())),
      replica_seconds_(registry->AddHistogram(
          "worker_router_seconds", "The router replica's part of a step", ShortLatencyBuckets())),
      tokens_(registry->AddCounter("worker_tokens_total", "Tokens that went through the backbone")),
      failed_steps_(registry->AddCounter("worker_failed_steps_total", "Plans refused or aborted")),
      row_errors_(registry->AddCounter("worker_row_errors_total", "Sequences failed by a bad row")),
      stall_seconds_(registry->AddCounter("expert_stall_seconds_total",
                                          "Time that steps waited on residency")),
      unit_hits_(registry->AddCounter("expert_cache_hits_total",
                                      "Units that were resident when a step needed them")),
      unit_misses_(registry->AddCounter("expert_cache_misses_total",
                                        "Units that were loaded when a step needed them")),
      unit_late_prefetches_(registry->AddCounter("expert_late_prefetches_total",
                                                 "Units that were on their way by then")),
      unit_evictions_(
          registry->AddCounter("expert_evictions_total", "Units that gave way to others")) {}

void WorkerMetrics::SetMemory(const MemoryPlan& plan) {
  const std::string name = "worker_memory_bytes", help = "Memory by part, as planned at start";
  for (const auto& [part, bytes] :
       {std::pair<const char*, int64_t>{"embedding", plan.embedding_bytes},
        {"attention", plan.attention_bytes},
        {"resident_ffn", plan.resident_ffn_bytes},
        {"router", plan.router_bytes},
        {"kv", plan.kv_bytes},
        {"step", plan.step_bytes}}) {
    registry_->AddGauge(name, help, {{"part", part}}).Set(static_cast<double>(bytes));
  }
  registry_->AddGauge("expert_resident_bytes", "Expert units on the device")
      .Set(static_cast<double>(plan.expert_bytes));
}

LinkId WorkerMetrics::Attach(Worker::Send send) {
  attached_.Increment();
  return port_->Attach([this, send = std::move(send)](FromWorker message) {
    if (const auto* result = std::get_if<StepResult>(&message)) Observe(*result);
    send(std::move(message));
  });
}

bool WorkerMetrics::Submit(LinkId link, ToWorker message) {
  return port_->Submit(link, std::move(message));
}

void WorkerMetrics::Disconnected(LinkId link) {
  attached_.Decrement();
  port_->Disconnected(link);
}

void WorkerMetrics::Observe(const StepResult& result) {
  if (!result.status.ok()) return failed_steps_.Increment();
  step_seconds_.Observe(result.times.step_us * kSecondsPerUs);
  replica_seconds_.Observe(result.times.router_us * kSecondsPerUs);
  tokens_.Increment(result.times.num_tokens);
  row_errors_.Increment(static_cast<double>(result.row_errors.size()));
  stall_seconds_.Increment(result.times.stall_us * kSecondsPerUs);
  unit_hits_.Increment(static_cast<double>(result.times.unit_hits));
  unit_misses_.Increment(static_cast<double>(result.times.unit_misses));
  unit_late_prefetches_.Increment(static_cast<double>(result.times.unit_late_prefetches));
  unit_evictions_.Increment(static_cast<double>(result.times.unit_evictions));
}

}  // namespace pregate

#include "expert_service/engine/worker_metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr double kSecondsPerUs = 1e-6;

MetricLabels With(MetricLabels labels, const char* name, const char* value) {
  labels.emplace(name, value);
  return labels;
}

constexpr char kLoadedHelp[] =
    "Bytes of units copied into slots: demanded by a step, or ahead of demand";
constexpr char kExchangeBytesHelp[] = "Payload of expert rows and routes to and from other workers";

}  // namespace

WorkerMetrics::WorkerMetrics(MetricsRegistry* registry, const Log* log, int32_t rank,
                             SpanSink* spans)
    : registry_(registry),
      log_(log),
      traces_("computed", log, spans),
      rank_{{"rank", absl::StrCat(rank)}},
      links_(registry->AddGauge("worker_links", "Scheduler streams that are attached", rank_)),
      step_seconds_(registry->AddHistogram("worker_step_seconds",
                                           "A step on this worker: plan taken to result made",
                                           LatencyBuckets(), rank_)),
      replica_seconds_(registry->AddHistogram("worker_router_seconds",
                                              "The router replica's part of a step",
                                              ShortLatencyBuckets(), rank_)),
      exchange_seconds_(registry->AddHistogram(
          "exchange_seconds",
          "A step's exchange with other workers over all layers, on the host's clock, waiting for "
          "them included; nothing where a worker is alone or a GPU's stream exchanges (NCCL)",
          ShortLatencyBuckets(), rank_)),
      exchange_bytes_sent_(registry->AddCounter("exchange_bytes_total", kExchangeBytesHelp,
                                                With(rank_, "direction", "sent"))),
      exchange_bytes_received_(registry->AddCounter("exchange_bytes_total", kExchangeBytesHelp,
                                                    With(rank_, "direction", "received"))),
      tokens_(registry->AddCounter("worker_tokens_total", "Tokens that went through the backbone",
                                   rank_)),
      failed_steps_(
          registry->AddCounter("worker_failed_steps_total", "Plans refused or aborted", rank_)),
      row_errors_(
          registry->AddCounter("worker_row_errors_total", "Sequences failed by a bad row", rank_)),
      stall_seconds_(registry->AddCounter("expert_stall_seconds_total",
                                          "Time that steps waited for expert units", rank_)),
      late_stall_seconds_(registry->AddCounter("expert_late_stall_seconds_total",
                                               "Of that: for units that were on their way already; "
                                               "a step's wait is shared between those "
                                               "and absent ones by their number",
                                               rank_)),
      unit_hits_(registry->AddCounter("expert_cache_hits_total",
                                      "Units that were resident when a step came to load them",
                                      rank_)),
      unit_misses_(registry->AddCounter("expert_cache_misses_total",
                                        "Units that were absent when a step came to load them",
                                        rank_)),
      unit_late_prefetches_(registry->AddCounter("expert_cache_late_prefetches_total",
                                                 "Units that were on their way by then", rank_)),
      unit_evictions_(registry->AddCounter("expert_cache_evictions_total",
                                           "Units that gave way to others", rank_)),
      unit_loads_(registry->AddCounter("expert_cache_loads_total",
                                       "Copies of units into slots that began", rank_)),
      demand_bytes_(registry->AddCounter("expert_loaded_bytes_total", kLoadedHelp,
                                         With(rank_, "reason", "demand"))),
      ahead_bytes_(registry->AddCounter("expert_loaded_bytes_total", kLoadedHelp,
                                        With(rank_, "reason", "ahead"))),
      resident_units_(registry->AddGauge("expert_resident_units",
                                         "Units (one layer of one expert) on the device", rank_)),
      resident_bytes_(registry->AddGauge("expert_resident_bytes",
                                         "Device memory of the units that are resident", rank_)),
      slots_(registry->AddGauge("expert_cache_slots",
                                "Units that fit on the device at once; where all fit, as many as "
                                "the worker holds",
                                rank_)) {}

void WorkerMetrics::OnMemory(const MemoryPlan& plan) {
  const std::string name = "worker_memory_bytes", help = "Memory by part, as planned at start";
  for (const auto& [part, bytes] :
       {std::pair<const char*, int64_t>{"embedding", plan.embedding_bytes},
        {"attention", plan.attention_bytes},
        {"shared_ffn", plan.shared_ffn_bytes},
        {"experts", plan.expert_bytes},
        {"experts_host", plan.expert_host_bytes},
        {"router", plan.router_bytes},
        {"kv", plan.kv_bytes},
        {"step", plan.step_bytes}}) {
    registry_->AddGauge(name, help, With(rank_, "part", part)).Set(static_cast<double>(bytes));
  }
}

void WorkerMetrics::OnStep(const StepResult& result, const StepTimes& times) {
  if (!result.status.ok()) return failed_steps_.Increment();
  step_seconds_.Observe(result.step_us * kSecondsPerUs);
  replica_seconds_.Observe(times.router_us * kSecondsPerUs);
  if (times.exchange_us > 0) exchange_seconds_.Observe(times.exchange_us * kSecondsPerUs);
  exchange_bytes_sent_.Increment(static_cast<double>(times.exchange_bytes_sent));
  exchange_bytes_received_.Increment(static_cast<double>(times.exchange_bytes_received));
  tokens_.Increment(times.num_tokens);
  row_errors_.Increment(static_cast<double>(result.row_errors.size()));
  stall_seconds_.Increment(times.stall_us * kSecondsPerUs);
  const auto late = static_cast<double>(times.unit_late_prefetches);
  const double waited_for = late + static_cast<double>(times.unit_misses);
  if (late > 0) late_stall_seconds_.Increment(times.stall_us * kSecondsPerUs * late / waited_for);
  unit_hits_.Increment(static_cast<double>(times.unit_hits));
  unit_misses_.Increment(static_cast<double>(times.unit_misses));
  unit_late_prefetches_.Increment(static_cast<double>(times.unit_late_prefetches));
}

// Loads and evictions happen between steps too, so they are not a step's.
void WorkerMetrics::OnResidency(const ResidencyStats& now) {
  resident_units_.Set(static_cast<double>(now.units));
  resident_bytes_.Set(static_cast<double>(now.bytes));
  slots_.Set(static_cast<double>(now.slots));
  unit_loads_.Increment(static_cast<double>(now.loads - counted_.loads));
  unit_evictions_.Increment(static_cast<double>(now.evictions - counted_.evictions));
  demand_bytes_.Increment(static_cast<double>(now.demand_bytes - counted_.demand_bytes));
  ahead_bytes_.Increment(static_cast<double>(now.ahead_bytes - counted_.ahead_bytes));
  counted_ = now;
}

}  // namespace pregate

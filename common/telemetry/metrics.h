// The process's metrics: prefix `pregate_`, base units, label `model` on every series but the
// process's own (docs/METRICS.md). Not process-global: several registries coexist in one process.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace pregate {

using Counter = prometheus::Counter;
using Gauge = prometheus::Gauge;
using Histogram = prometheus::Histogram;
using MetricLabels = std::map<std::string, std::string>;

// Thread-safe; references stay valid as long as the registry. Asking twice for one name and label
// set gives the same metric. REQUIRES: a name is always asked for with one type, help and buckets.
class MetricsRegistry {
 public:
  explicit MetricsRegistry(std::string model);

  // `name` without the prefix: "requests_total".
  Counter& AddCounter(const std::string& name, const std::string& help,
                      const MetricLabels& labels = {});
  Gauge& AddGauge(const std::string& name, const std::string& help,
                  const MetricLabels& labels = {});
  Histogram& AddHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& buckets, const MetricLabels& labels = {});

  // About the process, not the model: neither prefix nor labels.
  Gauge& AddProcessGauge(const std::string& name, const std::string& help);
  Counter& AddProcessCounter(const std::string& name, const std::string& help);

  // `refresh` is called at the begin of every Serialize, on its thread, never twice at a time. It
  // must not block, and what it touches outlives the last Serialize.
  void BeforeSerialize(std::function<void()> refresh);

  // The text exposition format.
  std::string Serialize() const;

 private:
  const MetricLabels constant_labels_;
  mutable absl::Mutex mutex_;
  std::vector<std::function<void()>> refreshes_ ABSL_GUARDED_BY(mutex_);
  prometheus::Registry registry_;
};

// 1 ms steps up to 30 ms, then ever wider up to 100 s; in seconds.
std::vector<double> LatencyBuckets();
// 10 us to 100 s in steps of 1, 2, 5, for what usually takes less than a step; in seconds.
std::vector<double> ShortLatencyBuckets();
// 1, 2, 4, ... up to at least `max`.
std::vector<double> PowerOfTwoBuckets(int max);
// 1, 2, 3, ... `max`, at most 64 of them, then powers of two.
std::vector<double> CountBuckets(int max);

}  // namespace pregate

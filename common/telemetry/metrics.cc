#include "common/telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

constexpr char kPrefix[] = "pregate_";

// The serializer prints bounds with 16 digits (le="0.008999999999999999"), which nobody can query:
// six digits take their place.
std::string ShortBounds(const std::string& text) {
  constexpr absl::string_view kBound = "le=\"";
  std::string out;
  out.reserve(text.size());
  size_t pos = 0;
  for (size_t found; (found = text.find(kBound.data(), pos)) != std::string::npos;) {
    const size_t begin = found + kBound.size(), end = text.find('"', begin);
    const absl::string_view digits(text.data() + begin, end - begin);
    double bound = 0;
    out.append(text, pos, begin - pos);
    if (absl::SimpleAtod(digits, &bound) && std::isfinite(bound)) {
      absl::StrAppend(&out, bound);
    } else {
      absl::StrAppend(&out, digits);
    }
    pos = end;
  }
  return out.append(text, pos);
}

}  // namespace

MetricsRegistry::MetricsRegistry(std::string model)
    : constant_labels_{{"model", std::move(model)}} {}

Counter& MetricsRegistry::AddCounter(const std::string& name, const std::string& help,
                                     const MetricLabels& labels) {
  return prometheus::BuildCounter()
      .Name(kPrefix + name)
      .Help(help)
      .Labels(constant_labels_)
      .Register(registry_)
      .Add(labels);
}

Gauge& MetricsRegistry::AddGauge(const std::string& name, const std::string& help,
                                 const MetricLabels& labels) {
  return prometheus::BuildGauge()
      .Name(kPrefix + name)
      .Help(help)
      .Labels(constant_labels_)
      .Register(registry_)
      .Add(labels);
}

Histogram& MetricsRegistry::AddHistogram(const std::string& name, const std::string& help,
                                         const std::vector<double>& buckets,
                                         const MetricLabels& labels) {
  return prometheus::BuildHistogram()
      .Name(kPrefix + name)
      .Help(help)
      .Labels(constant_labels_)
      .Register(registry_)
      .Add(labels, buckets);
}

Gauge& MetricsRegistry::AddProcessGauge(const std::string& name, const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add({});
}

Counter& MetricsRegistry::AddProcessCounter(const std::string& name, const std::string& help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add({});
}

void MetricsRegistry::BeforeSerialize(std::function<void()> refresh) {
  absl::MutexLock lock(&mutex_);
  refreshes_.push_back(std::move(refresh));
}

std::string MetricsRegistry::Serialize() const {
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& refresh : refreshes_) refresh();
  }
  return ShortBounds(prometheus::TextSerializer().Serialize(registry_.Collect()));
}

std::vector<double> LatencyBuckets() {
  std::vector<double> buckets;
  for (int ms = 1; ms <= 30; ++ms) buckets.push_back(ms / 1000.0);
  for (const double seconds :
       {0.035, 0.04, 0.045, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.125, 0.15, 0.2,
        0.25,  0.3,  0.4,   0.5,  0.6,  0.8,  1.0,  1.5,  2.0, 2.5,   3.0,  4.0,
        5.0,   7.5,  10.,   15.,  20.,  30.,  45.,  60.,  80., 100.}) {
    buckets.push_back(seconds);
  }
  return buckets;
}

std::vector<double> ShortLatencyBuckets() {
  std::vector<double> buckets;
  for (double decade = 1e-5; decade < 50; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) buckets.push_back(decade * step);
  }
  buckets.push_back(100);
  return buckets;
}

std::vector<double> PowerOfTwoBuckets(int max) {
  std::vector<double> buckets = {1};
  while (buckets.back() < max) buckets.push_back(buckets.back() * 2);
  return buckets;
}

std::vector<double> CountBuckets(int max) {
  constexpr int kSingleSteps = 64;
  std::vector<double> buckets;
  for (int i = 1; i <= std::clamp(max, 1, kSingleSteps); ++i) buckets.push_back(i);
  while (buckets.back() < max) buckets.push_back(buckets.back() * 2);
  return buckets;
}

}  // namespace pregate

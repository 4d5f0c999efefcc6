#include "sim/report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace pregate::sim {
namespace {

using Json = nlohmann::json;

double Ratio(double a, double b) { return b == 0 ? 0 : a / b; }
// Six significant digits: what a reader needs, and stable.
double Round(double value) {
  if (value == 0) return 0;
  const double scale = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

Json ToJson(const Distribution& d) {
  return {{"count", d.count},    {"mean", Round(d.mean)}, {"p50", Round(d.p50)},
          {"p95", Round(d.p95)}, {"p99", Round(d.p99)},   {"max", Round(d.max)}};
}

}  // namespace

Distribution Summarize(std::vector<float> seconds) {
  Distribution d;
  d.count = static_cast<int64_t>(seconds.size());
  if (seconds.empty()) return d;
  std::sort(seconds.begin(), seconds.end());
  d.mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / seconds.size();
  const auto rank = [&](double p) {
    const auto n = static_cast<size_t>(std::ceil(p * seconds.size()));
    return static_cast<double>(seconds[std::max<size_t>(n, 1) - 1]);
  };
  d.p50 = rank(0.5);
  d.p95 = rank(0.95);
  d.p99 = rank(0.99);
  d.max = seconds.back();
  return d;
}

Json ToJson(const Report& r) {
  const double window = static_cast<double>(r.window_references);
  return {{"requests", r.requests},
          {"finished", r.finished},
          {"refused", r.refused},
          {"preemptions", r.preemptions},
          {"prompt_tokens", r.prompt_tokens},
          {"generated_tokens", r.generated_tokens},
          {"virtual_s", Round(r.virtual_s)},
          {"generated_tokens_per_s", Round(Ratio(r.generated_tokens, r.virtual_s))},
          {"ttft_s", ToJson(r.ttft)},
          {"itl_s", ToJson(r.itl)},
          {"normalized_latency_s", ToJson(r.normalized)},
          {"steps", r.steps.steps},
          {"tokens_per_step", Round(Ratio(r.steps.tokens, r.steps.steps))},
          {"unique_experts_per_step", Round(Ratio(r.steps.experts, r.steps.steps))},
          {"worker_busy_ratio", Round(Ratio(absl::ToDoubleSeconds(r.steps.busy), r.virtual_s))},
          {"references", r.cache.references},
          {"hit_ratio", Round(Ratio(r.cache.hits, r.cache.references))},
          {"late_ratio", Round(Ratio(r.cache.late, r.cache.references))},
          {"loads", r.cache.loads},
          {"reuse_ratio", Round(1 - Ratio(r.cache.loads, r.cache.references))},
          {"stall_s", Round(absl::ToDoubleSeconds(r.cache.stall))},
          {"window",
           {{"references", r.window_references},
            {"reuse_ratio", Round(1 - Ratio(r.window_loads, window))},
            {"optimal_reuse_ratio", Round(1 - Ratio(r.window_optimal_loads, window))},
            {"lru_reuse_ratio", Round(1 - Ratio(r.window_lru_loads, window))},
            {"random_reuse_ratio", Round(1 - Ratio(r.window_random_loads, window))}}}};
}

}  // namespace pregate::sim

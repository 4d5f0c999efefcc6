#include "cli/top/view.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate::cli {
namespace {

constexpr int kExpertsShownMax = 1024;

// One source's interval.
struct Interval {
  const Scrape* before;  // null: was down
  const Scrape* now;     // null: is down
  double seconds = 0;
  std::string address;

  bool whole() const { return before != nullptr && now != nullptr && seconds > 0; }
};

// Questions to one source or to all.
class Intervals {
 public:
  explicit Intervals(std::vector<Interval> all) : all_(std::move(all)) {}

  const std::vector<Interval>& all() const { return all_; }

  std::optional<double> Gauge(const std::string& name, const LabelMatch& match = {}) const {
    std::optional<double> sum;
    for (const Interval& i : all_) {
      const auto value = i.now ? i.now->Sum(name, match) : std::nullopt;
      if (value) sum = sum.value_or(0) + *value;
    }
    return sum;
  }

  std::optional<double> Rate(const std::string& name, const LabelMatch& match = {}) const {
    std::optional<double> sum;
    for (const Interval& i : all_) {
      const auto value = i.whole() ? i.now->Sum(name, match) : std::nullopt;
      if (!value) continue;
      const double rise = Increase(i.before->Sum(name, match).value_or(0), *value);
      sum = sum.value_or(0) + rise / i.seconds;
    }
    return sum;
  }

  std::map<std::string, double> RateBy(const std::string& name, const std::string& label) const {
    std::map<std::string, double> rates;
    for (const Interval& i : all_) {
      if (!i.whole()) continue;
      std::map<std::string, double> before = i.before->SumBy(name, label);
      for (const auto& [key, value] : i.now->SumBy(name, label)) {
        rates[key] += Increase(before[key], value) / i.seconds;
      }
    }
    return rates;
  }

  Quantiles QuantilesOf(const std::string& name, const LabelMatch& match = {}) const {
    Buckets rise;
    for (const Interval& i : all_) {
      if (!i.whole()) continue;
      rise = Add(rise, Increase(i.before->Histogram(name, match), i.now->Histogram(name, match)));
    }
    return {Quantile(rise, 0.50), Quantile(rise, 0.95)};
  }

 private:
  std::vector<Interval> all_;
};

Intervals Pair(absl::Span<const SourceSample> before, absl::Span<const SourceSample> now) {
  PREGATE_CHECK(before.size() == now.size());
  std::vector<Interval> all;
  for (size_t i = 0; i < now.size(); ++i) {
    all.push_back({.before = before[i].scrape ? &*before[i].scrape : nullptr,
                   .now = now[i].scrape ? &*now[i].scrape : nullptr,
                   .seconds = absl::ToDoubleSeconds(now[i].time - before[i].time),
                   .address = now[i].address});
  }
  return Intervals(std::move(all));
}

std::string RolesOf(const Scrape& scrape) {
  const std::pair<const char*, const char*> kTells[] = {
      {"pregate_num_requests_running", "scheduler"},
      {"pregate_router_sessions", "router"},
      {"pregate_worker_links", "worker"}};
  std::string roles;
  for (const auto& [series, role] : kTells) {
    if (scrape.Sum(series)) absl::StrAppend(&roles, roles.empty() ? "" : " ", role);
  }
  return roles.empty() ? "no series of pregate" : roles;
}

std::optional<double> HitRatio(const Intervals& source, const LabelMatch& rank) {
  const auto hits = source.Rate("pregate_expert_cache_hits_total", rank);
  const double misses = source.Rate("pregate_expert_cache_misses_total", rank).value_or(0);
  const double late = source.Rate("pregate_expert_cache_late_prefetches_total", rank).value_or(0);
  if (!hits || *hits + misses + late <= 0) return std::nullopt;
  return *hits / (*hits + misses + late);
}

WorkerView MakeWorker(const Interval& interval, const std::string& rank) {
  const Intervals source({interval});
  const LabelMatch of{{"rank", rank}};
  WorkerView worker;
  worker.rank = rank;
  worker.address = interval.address;
  worker.units = source.Gauge("pregate_expert_resident_units", of);
  worker.slots = source.Gauge("pregate_expert_cache_slots", of);
  worker.bytes = source.Gauge("pregate_expert_resident_bytes", of);
  worker.hit_ratio = HitRatio(source, of);
  worker.loads_per_s = source.Rate("pregate_expert_cache_loads_total", of);
  if (const auto stall = source.Rate("pregate_expert_stall_seconds_total", of)) {
    worker.stall_ms_per_s = *stall * 1e3;
  }
  worker.tokens_per_s = source.Rate("pregate_worker_tokens_total", of);
  worker.exchange_bytes_per_s = source.Rate("pregate_exchange_bytes_total", of);
  worker.step = source.QuantilesOf("pregate_worker_step_seconds", of);
  return worker;
}

// Those whose own metrics are read, and those of which only the scheduler speaks.
std::vector<WorkerView> MakeWorkers(const Intervals& intervals) {
  std::vector<WorkerView> workers;
  std::map<std::string, double> up;
  std::set<std::string> seen;
  for (const Interval& i : intervals.all()) {
    if (i.now == nullptr) continue;
    for (const auto& [rank, value] : i.now->SumBy("pregate_worker_up", "rank")) up[rank] = value;
    for (const auto& [rank, links] : i.now->SumBy("pregate_worker_links", "rank")) {
      workers.push_back(MakeWorker(i, rank));
      seen.insert(rank);
    }
  }
  for (const auto& [rank, value] : up) {
    if (!seen.contains(rank)) workers.push_back({.rank = rank});
  }
  for (WorkerView& worker : workers) {
    if (const auto it = up.find(worker.rank); it != up.end()) worker.attached = it->second > 0;
  }
  std::stable_sort(workers.begin(), workers.end(), [](const WorkerView& a, const WorkerView& b) {
    return std::pair(a.rank.size(), a.rank) < std::pair(b.rank.size(), b.rank);
  });
  return workers;
}

std::map<int, double> ExpertTokens(const Intervals& intervals) {
  std::map<int, double> rates;
  for (const auto& [expert, rate] : intervals.RateBy("pregate_expert_tokens_total", "expert")) {
    int id = 0;
    const bool shown = absl::SimpleAtoi(expert, &id) && id >= 0 && id < kExpertsShownMax;
    if (shown && std::isfinite(rate)) rates[id] = rate;  // a sum may overflow
  }
  return rates;
}

}  // namespace

TopView MakeView(absl::Span<const SourceSample> before, absl::Span<const SourceSample> now) {
  const Intervals all = Pair(before, now);
  TopView view;
  for (size_t i = 0; i < now.size(); ++i) {
    const SourceSample& source = now[i];
    view.sources.push_back({source.address, source.scrape ? RolesOf(*source.scrape) : "",
                            source.scrape ? "" : source.why_down});
    if (source.scrape && view.model.empty()) view.model = source.scrape->AnyLabel("model");
    view.interval_s = std::max(view.interval_s, all.all()[i].seconds);
  }
  view.running = all.Gauge("pregate_num_requests_running");
  view.waiting = all.Gauge("pregate_num_requests_waiting");
  view.kv_usage_ratio = all.Gauge("pregate_kv_cache_usage_ratio");
  const auto asked = all.Rate("pregate_prefix_cache_queries_total");
  const auto found = all.Rate("pregate_prefix_cache_hits_total");
  if (asked && found && *asked > 0) view.found_tokens_ratio = *found / *asked;
  view.finished_per_s = all.RateBy("pregate_requests_total", "finish_reason");
  view.prompt_tokens_per_s = all.Rate("pregate_prompt_tokens_total");
  view.generated_tokens_per_s = all.Rate("pregate_generation_tokens_total");
  view.steps_per_s = all.Rate("pregate_step_duration_seconds_count");
  view.ttft = all.QuantilesOf("pregate_time_to_first_token_seconds");
  view.itl = all.QuantilesOf("pregate_inter_token_latency_seconds");
  view.queue = all.QuantilesOf("pregate_request_queue_time_seconds");
  view.step = all.QuantilesOf("pregate_step_duration_seconds");
  view.router_up = all.Gauge("pregate_router_up");
  view.router_sessions = all.Gauge("pregate_router_sessions");
  view.router_tokens_per_s = all.Rate("pregate_router_tokens_total");
  view.expert_tokens_per_s = ExpertTokens(all);
  view.workers = MakeWorkers(all);
  return view;
}

}  // namespace pregate::cli

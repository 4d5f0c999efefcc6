#include "cli/top/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"

namespace pregate::cli {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool Matches(const Sample& sample, const LabelMatch& match) {
  return std::all_of(match.begin(), match.end(), [&](const auto& wanted) {
    const auto it = sample.labels.find(wanted.first);
    return it != sample.labels.end() && it->second == wanted.second;
  });
}

}  // namespace

Scrape::Scrape(std::vector<Sample> samples) {
  for (Sample& sample : samples) {
    // Nothing that pregate measures is negative or endless; such values would spoil sums and rates.
    if (!std::isfinite(sample.value) || sample.value < 0) continue;
    std::string name = sample.name;
    by_name_.emplace(std::move(name), std::move(sample));
  }
}

std::optional<double> Scrape::Sum(const std::string& name, const LabelMatch& match) const {
  std::optional<double> sum;
  const auto [begin, end] = by_name_.equal_range(name);
  for (auto it = begin; it != end; ++it) {
    if (Matches(it->second, match)) sum = sum.value_or(0) + it->second.value;
  }
  return sum;
}

std::map<std::string, double> Scrape::SumBy(const std::string& name, const std::string& label,
                                            const LabelMatch& match) const {
  std::map<std::string, double> sums;
  const auto [begin, end] = by_name_.equal_range(name);
  for (auto it = begin; it != end; ++it) {
    const auto value = it->second.labels.find(label);
    if (value == it->second.labels.end() || !Matches(it->second, match)) continue;
    sums[value->second] += it->second.value;
  }
  return sums;
}

Buckets Scrape::Histogram(const std::string& name, const LabelMatch& match) const {
  Buckets buckets;
  for (const auto& [bound, count] : SumBy(name + "_bucket", "le", match)) {
    double upper = 0;
    if (absl::SimpleAtod(bound, &upper) && upper >= 0) buckets[upper] += count;
  }
  return buckets;
}

std::string Scrape::AnyLabel(const std::string& label) const {
  for (const auto& [name, sample] : by_name_) {
    const auto it = sample.labels.find(label);
    if (it != sample.labels.end()) return it->second;
  }
  return "";
}

double Increase(double before, double now) { return now < before ? now : now - before; }

Buckets Increase(const Buckets& before, const Buckets& now) {
  const bool same_bounds =
      before.size() == now.size() &&
      std::equal(before.begin(), before.end(), now.begin(),
                 [](const auto& a, const auto& b) { return a.first == b.first; });
  if (!same_bounds || Total(now) < Total(before)) return now;
  Buckets rise;
  for (const auto& [bound, count] : now) rise[bound] = std::max(0.0, count - before.at(bound));
  return rise;
}

Buckets Add(const Buckets& a, const Buckets& b) {
  Buckets sum = a;
  for (const auto& [bound, count] : b) sum[bound] += count;
  return sum;
}

double Total(const Buckets& buckets) { return buckets.empty() ? 0 : buckets.rbegin()->second; }

std::optional<double> Quantile(const Buckets& buckets, double q) {
  const double total = Total(buckets);
  if (!(total > 0)) return std::nullopt;
  const double rank = q * total;
  double lower = 0, below = 0;
  for (const auto& [upper, count] : buckets) {
    if (count >= rank && count > below) {
      if (upper == kInfinity) return lower;
      return lower + (upper - lower) * std::max(0.0, rank - below) / (count - below);
    }
    below = std::max(below, count);
    lower = upper;
  }
  return lower;
}

}  // namespace pregate::cli

#include "scheduler_service/core/route_habits.h"

#include <algorithm>

namespace pregate::scheduler {
namespace {

constexpr double kStays = 0.7;
constexpr double kPriorTokens = 16;
// A row is halved when it has seen so many.
constexpr double kTokensMax = 10000;

}  // namespace

void RouteHabits::Reset(int32_t num_experts) {
  num_experts_ = num_experts;
  const double leaves = (1 - kStays) / std::max(num_experts - 1, 1);
  counts_.assign(static_cast<size_t>(num_experts) * num_experts, leaves * kPriorTokens);
  totals_.assign(num_experts, kPriorTokens);
  for (ExpertId e = 0; e < num_experts; ++e) {
    counts_[At(e, e)] = (num_experts == 1 ? 1 : kStays) * kPriorTokens;
  }
}

void RouteHabits::Observe(ExpertId from, ExpertId to) {
  if (from < 0 || to < 0 || from >= num_experts_ || to >= num_experts_) return;
  counts_[At(from, to)] += 1;
  totals_[from] += 1;
  if (totals_[from] < kTokensMax) return;
  for (ExpertId e = 0; e < num_experts_; ++e) counts_[At(from, e)] /= 2;
  totals_[from] /= 2;
}

void RouteHabits::Observe(absl::Span<const ExpertId> routes) {
  for (size_t i = 1; i < routes.size(); ++i) Observe(routes[i - 1], routes[i]);
}

}  // namespace pregate::scheduler

#include "scheduler_service/core/load_cost.h"

#include <algorithm>

namespace pregate::scheduler {
namespace {

constexpr double kClaimFading = 1.01;
// Of fewer, the first may have been under way before the step.
constexpr int32_t kUnitsMin = 8;

void Lower(double* least, double value) {
  *least = *least == 0 ? value : std::min(*least * kClaimFading, value);
}

}  // namespace

void LoadCost::Observe(double step_us, int32_t units_arrived, bool has_prefill) {
  const double us = std::max(step_us, 1.0);
  if (units_arrived >= kUnitsMin) Lower(&unit_us_, us / units_arrived);
  if (!has_prefill) Lower(&step_us_, us);
}

}  // namespace pregate::scheduler

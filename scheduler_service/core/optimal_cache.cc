#include "scheduler_service/core/optimal_cache.h"

#include <algorithm>
#include <set>
#include <utility>

namespace pregate::scheduler {
namespace {

// Enough for the ratios to be steady, and less than a millisecond's work.
constexpr int64_t kWindowReferences = 2048;

}  // namespace

int64_t OptimalHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots) {
  const int64_t never = static_cast<int64_t>(references.size());
  std::vector<int64_t> next(references.size());
  std::vector<int64_t> seen(num_units, never);
  for (int64_t i = never; i-- > 0;) {
    next[i] = seen[references[i]];
    seen[references[i]] = i;
  }
  std::set<std::pair<int64_t, int32_t>> resident;  // by next use
  int64_t hits = 0;
  for (int64_t i = 0; i < never; ++i) {
    const int32_t unit = references[i];
    if (resident.erase({i, unit}) > 0) {
      ++hits;
    } else if (static_cast<int32_t>(resident.size()) == slots) {
      resident.erase(std::prev(resident.end()));
    }
    resident.emplace(next[i], unit);
  }
  return hits;
}

void ReuseWindow::Begin(int32_t num_experts, int32_t expert_slots,
                        absl::Span<const ExpertId> resident) {
  num_experts_ = num_experts;
  slots_ = expert_slots;
  reuse_ = {};
  Close(resident);
}

void ReuseWindow::OnStep(absl::Span<const ExpertId> named, int64_t units_loaded, int32_t num_layers,
                         absl::Span<const ExpertId> resident) {
  if (slots_ == 0) return;
  references_.insert(references_.end(), named.begin(), named.end());
  loads_ += static_cast<double>(units_loaded) / num_layers;
  const int64_t num = static_cast<int64_t>(references_.size()) - num_initial_;
  if (num < kWindowReferences) return;
  const int64_t hits = OptimalHits(references_, num_experts_, slots_);
  const auto total = static_cast<double>(num);
  reuse_.ratio = std::max(1 - loads_ / total, 0.0);
  reuse_.optimal_ratio = static_cast<double>(hits) / total;
  Close(resident);
}

void ReuseWindow::Close(absl::Span<const ExpertId> resident) {
  references_.assign(resident.begin(), resident.end());
  num_initial_ = static_cast<int64_t>(references_.size());
  loads_ = 0;
}

}  // namespace pregate::scheduler

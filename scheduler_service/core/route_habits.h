// Where tokens go next, learnt from every token whose route becomes known: a prediction, and never
// taken for a route.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate::scheduler {

// Shares of the experts that followed each expert; older tokens fade (half of their weight after
// about 7,000 behind the same expert). Not thread-safe.
class RouteHabits {
 public:
  // Nothing is known: a token stays with a chance of 70%, or goes to any other.
  void Reset(int32_t num_experts);
  // The next token's expert.
  void Observe(ExpertId from, ExpertId to);
  // Of a prompt's tokens in a row; kNoRoute ends it.
  void Observe(absl::Span<const ExpertId> routes);

  int32_t num_experts() const { return num_experts_; }
  // The chance that a token behind one of `from` is one of `to`.
  double Chance(ExpertId from, ExpertId to) const {
    return counts_[At(from, to)] / totals_[static_cast<size_t>(from)];
  }

 private:
  size_t At(ExpertId from, ExpertId to) const {
    return static_cast<size_t>(from) * num_experts_ + to;
  }

  int32_t num_experts_ = 0;
  std::vector<double> counts_;  // [from, to]
  std::vector<double> totals_;  // [from]
};

}  // namespace pregate::scheduler

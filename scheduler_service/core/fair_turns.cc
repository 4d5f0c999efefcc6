#include "scheduler_service/core/fair_turns.h"

#include <algorithm>

namespace pregate::scheduler {

int64_t FairTurns::Next(uint64_t client) {
  ForgetThePast();
  int64_t& next = next_[client];
  next = std::max(next, now_) + 1;
  return next - 1;
}

void FairTurns::Entered(int64_t turn) { now_ = std::max(now_, turn); }

// A client whose turn has passed is as one that was never seen.
void FairTurns::ForgetThePast() {
  if (next_.size() < forget_at_) return;
  absl::erase_if(next_, [&](const auto& entry) { return entry.second <= now_; });
  forget_at_ = std::max(kForgetMin, 2 * next_.size());
}

}  // namespace pregate::scheduler

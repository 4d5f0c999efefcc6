#include "expert_service/engine/traced_sequences.h"

namespace pregate {

void TracedSequences::OnPlan(const StepPlan& plan, absl::Time now) {
  if (!open_.empty()) {
    for (const int32_t slot : plan.drop) {
      const auto it = open_.find(slot);
      if (it == open_.end()) continue;
      tell_(it->second);
      open_.erase(it);
    }
  }
  for (const SequenceAdd& add : plan.add) {
    if (add.traceparent.empty() || add.home_rank != rank_) continue;
    open_[add.seq_slot] = {
        .traceparent = add.traceparent, .seq_id = add.seq_id, .start = now, .end = now};
  }
}

void TracedSequences::OnStep(const StepPlan& plan, absl::Time now) {
  if (open_.empty()) return;
  for (const Row& row : plan.rows) {
    const auto it = open_.find(row.seq_slot);
    if (it == open_.end()) continue;
    it->second.tokens += row.count;
    it->second.end = now;
  }
}

void TracedSequences::OnEpoch() {
  for (const auto& [slot, work] : open_) tell_(work);
  open_.clear();
}

}  // namespace pregate

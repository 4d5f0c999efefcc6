#include "expert_service/engine/step_timeline.h"

#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {

void StepTimeline::Note(std::optional<Activity> phase) {
  phases_.push_back(phase);
  PREGATE_CHECK(phases_.size() < kMomentsMax, "phases of a step: ", phases_.size());
  device_.NoteMoment(static_cast<int>(phases_.size()));
}

// Begin and end are cut to microseconds, not the length: what follows without a gap stays so.
ActivitySpan StepTimeline::SpanOf(Activity activity, absl::Time begin, absl::Time end) const {
  const absl::Time zero = device_.MomentOf(0);
  const int64_t begin_us =
      absl::ToInt64Microseconds(absl::Floor(begin - zero, absl::Microseconds(1)));
  const int64_t end_us = absl::ToInt64Microseconds(absl::Floor(end - zero, absl::Microseconds(1)));
  return {activity, begin_us, end_us - begin_us};
}

std::vector<ActivitySpan> StepTimeline::Collect(absl::Span<const TransferSpan> transfers) {
  std::vector<ActivitySpan> spans;
  absl::Time begin, end;
  for (size_t i = 0; i < phases_.size(); ++i, begin = end) {
    end = device_.MomentOf(static_cast<int>(i) + 1);
    if (i > 0 && phases_[i - 1]) spans.push_back(SpanOf(*phases_[i - 1], begin, end));
  }
  for (const TransferSpan& t : transfers) {
    if (spans.size() == kStepActivitiesMax) break;
    spans.push_back(SpanOf(t.is_wait ? Activity::kStall : Activity::kLoad, t.begin, t.end));
  }
  return spans;
}

}  // namespace pregate

// When a rank did what during one step, for people who look on.
#pragma once

#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "common/step/result.h"

namespace pregate {

// The phases of a step, one after the other, as the device runs them. Not thread-safe.
class StepTimeline {
 public:
  explicit StepTimeline(Device* device) : device_(*device) {}

  void Begin() {
    phases_.clear();
    device_.BeginMoments();
  }
  // What is enqueued from now on is part of the phase, until the next Enter or Leave.
  void Enter(Activity phase) { Note(phase); }
  void Leave() { Note(std::nullopt); }

  // Phases, then `transfers`, cut to kStepActivitiesMax. REQUIRES: Synchronize since the last phase.
  std::vector<ActivitySpan> Collect(absl::Span<const TransferSpan> transfers);

 private:
  void Note(std::optional<Activity> phase);
  ActivitySpan SpanOf(Activity activity, absl::Time begin, absl::Time end) const;

  Device& device_;
  std::vector<std::optional<Activity>> phases_;  // the i-th began at moment i + 1
};

}  // namespace pregate

// The last steps, for people who look on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/ids.h"
#include "common/step/result.h"

namespace pregate::scheduler {

// Of the units that steps needed (docs/CONTRACTS.md, "Residency"), as workers say it.
struct UnitTally {
  int64_t hits = 0;      // resident when the step came to them
  int64_t misses = 0;    // not resident
  int64_t stall_us = 0;  // waited for them
};

// One member's part of a step.
struct RankStep {
  int32_t rank = 0;
  uint64_t incarnation = 0;
  int64_t begin_us = 0;  // since 1970, by the worker's clock
  int64_t step_us = 0;
  absl::Time answered;  // by ours
  bool device_clock = false;
  std::vector<ActivitySpan> activities;
};

// A step that every member has answered.
struct StepRecord {
  int64_t number = 0;         // 1, 2, 3, ... over all epochs
  absl::Time begin;           // its plan was sent
  absl::Duration round_trip;  // from there to the last answer
  int64_t step_us = 0;        // at the slowest member
  int32_t decode_rows = 0;
  int32_t prefill_rows = 0;
  int32_t prefill_tokens = 0;
  int32_t draft_tokens = 0;
  int32_t accepted_drafts = 0;  // of those
  std::vector<ExpertId>
      experts;                 // that its routes name, ascending: known ones, and what workers say
  int32_t unique_experts = 0;  // that ran, over all members
  UnitTally units;             // the stall is the longest member's
  // As they answered; never null. Activities are at most kActivitiesKeptMax in all.
  std::shared_ptr<const std::vector<RankStep>> ranks =
      std::make_shared<const std::vector<RankStep>>();
};

// Not thread-safe.
class StepHistory {
 public:
  // Keeps the last `max` > 0.
  explicit StepHistory(size_t max) : max_(max) {}

  // Numbers it.
  void Add(StepRecord step) {
    step.number = ++last_number_;
    if (steps_.size() == max_) steps_.pop_front();
    steps_.push_back(std::move(step));
  }
  std::vector<StepRecord> steps() const { return {steps_.begin(), steps_.end()}; }  // oldest first

 private:
  const size_t max_;
  int64_t last_number_ = 0;
  std::deque<StepRecord> steps_;
};

}  // namespace pregate::scheduler

// What a worker answers to one step plan (docs/CONTRACTS.md, "Result").
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/step/plan.h"

namespace pregate {

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};

// A drawn token. Its route is its own: the expert that it will run on (kNoRoute for a dense model).
struct Sample {
  SeqId seq_id = 0;
  int32_t position = 0;  // absolute: the row's position + committed(), and on from there
  TokenId token = 0;
  ExpertId route = kNoRoute;
  std::vector<TokenLogprob> logprobs;  // of raw logits: the token's own first, then the top k
};

// Answer to Emit::kScore.
struct RowScores {
  SeqId seq_id = 0;
  int32_t position = 0;
  std::vector<float> logprobs;  // [count] of targets
  std::vector<uint8_t> greedy;  // [count] 1 where the target is the argmax
  // [count] with the row's logprobs_k: as of a sample; else empty.
  std::vector<std::vector<TokenLogprob>> top;
};

// Answer to Emit::kLogits, in-process only.
struct RowLogits {
  SeqId seq_id = 0;
  int32_t position = 0;
  std::vector<float> logits;  // [count, vocab]
};

// One bad row fails its sequence, not the step.
struct RowError {
  SeqId seq_id = 0;
  std::string message;
};

enum class UnitState : uint8_t { kAbsent, kLoading, kResident, kFailed };

struct UnitEvent {
  uint64_t number = 0;  // 1, 2, 3, ... within an incarnation
  UnitId unit;
  UnitState state = UnitState::kAbsent;
};

// What a rank did at a time of its step. Router, layers and emit follow one another; the exchange and
// stalls lie within them. Loads go on beside, also between steps.
enum class Activity : uint8_t { kRouter, kLayers, kEmit, kExchange, kStall, kLoad };
inline constexpr int kNumActivities = 6;

struct ActivitySpan {
  Activity activity = Activity::kRouter;
  int64_t begin_us = 0;  // since the step's begin; a load may have begun before it
  int64_t duration_us = 0;
  bool operator==(const ActivitySpan&) const = default;
};

struct StepResult {
  Epoch epoch = 0;
  int32_t rank = 0;
  uint64_t incarnation = 0;
  StepId step_id = 0;
  absl::Status status;
  std::vector<Sample> samples;
  std::vector<RowScores> scores;
  std::vector<RowLogits> logits;
  std::vector<RowError> row_errors;
  std::vector<UnitEvent> unit_events;
  int64_t step_us = 0;         // plan taken to result made
  int32_t unique_experts = 0;  // that this rank ran
  // For people who look on: how long it waited for units; of the units that it needed, those that were
  // resident when it came to them, and those that were not; the experts that it ran, ascending.
  int64_t stall_us = 0;
  int64_t unit_hits = 0;
  int64_t unit_misses = 0;
  std::vector<ExpertId> experts;
  // When it did what: its begin since 1970 as this rank's clock tells, and within it; an exchange that
  // is enqueued on a card's stream has no times. Whether phases, stalls and loads are told by the
  // device's clock or by the host's.
  int64_t begin_us = 0;
  std::vector<ActivitySpan> activities;  // at most kStepActivitiesMax
  bool device_clock = false;
};

}  // namespace pregate

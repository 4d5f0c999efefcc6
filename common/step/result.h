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
  int32_t position = 0;  // absolute: the row's position + count
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

struct StepTimes {
  int64_t step_us = 0;     // plan taken to result made
  int64_t forward_us = 0;  // embedding to logits
  int64_t router_us = 0;   // the replica's part
  int64_t sample_us = 0;
  int64_t stall_us = 0;  // waited on residency
  int32_t num_tokens = 0;
  int32_t unique_experts = 0;
  // Units that the step needed: resident when it came to load them, absent, on their way; and units
  // that gave way.
  int64_t unit_hits = 0;
  int64_t unit_misses = 0;
  int64_t unit_late_prefetches = 0;
  int64_t unit_evictions = 0;
  // What travelled between the ranks: the host's time in it over all layers, waiting for peers
  // included (0: nothing travelled, or the collective only enqueues); payload to and from others.
  int64_t exchange_us = 0;
  int64_t exchange_bytes_sent = 0;
  int64_t exchange_bytes_received = 0;
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
  StepTimes times;
};

}  // namespace pregate

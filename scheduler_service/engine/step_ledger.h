// The steps that were sent and are not answered yet, and whether an answer is one.
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/step/control.h"
#include "scheduler_service/core/batch.h"
#include "scheduler_service/core/step_history.h"

namespace pregate::scheduler {

struct SentStep {
  StepId id = 0;
  absl::Time sent_at;
  std::vector<SentRow> rows;
  std::vector<int32_t> awaiting;  // members that have not answered
  int32_t num_tokens = 0;
  bool has_late_rows = false;
  bool decodes_only = false;      // no prefill
  std::vector<ExpertId> experts;  // that its known routes name
  int64_t step_us_max = 0;        // of the members that have answered
  int32_t unique_experts = 0;     // theirs, in all
  UnitTally units;                // theirs, in all; the longest stall
  std::vector<ExpertId> ran;      // theirs
  std::vector<RankStep> ranks;    // theirs
  int32_t num_accepted = 0;       // of the drafts, so far
  int32_t num_decodes = 0;        // of the rows
  int32_t num_drafts = 0;         // of the tokens
};

// A row that asked for no sample, and has run.
struct ComputedRow {
  SeqId seq_id = 0;
  int32_t end = 0;  // the position behind it
};

// One rank's answer, checked against what was asked.
struct StepAnswer {
  bool stale = false;  // answered before: nothing else is filled
  absl::Time sent_at;
  bool complete = false;  // every member has answered: the next six are the step's
  int64_t step_us_max = 0;
  int32_t unique_experts = 0;
  UnitTally units;
  std::vector<ExpertId> ran;    // as the members say, each once
  std::vector<RankStep> ranks;  // filled when complete
  int32_t num_accepted = 0;
  int32_t num_rows = 0;
  int32_t num_decodes = 0;
  int32_t num_drafts = 0;
  int32_t num_tokens = 0;
  bool decodes_only = false;
  std::vector<ExpertId> experts;
  std::vector<Sample> samples;    // in the order of rows, a row's by position
  std::vector<RowScores> scores;  // in the order of rows
  std::vector<ComputedRow> computed;
  std::vector<RowError> errors;   // of sequences that have a row at that rank
  std::vector<SeqId> unanswered;  // rows that got neither
};

// Not thread-safe.
class StepLedger {
 public:
  void Push(SentStep step) {
    last_id_ = step.id;
    steps_.push_back(std::move(step));
  }
  // A new epoch begins: ids start again.
  void Clear() {
    last_id_ = 0;
    steps_.clear();
  }
  bool empty() const { return steps_.empty(); }
  int size() const { return static_cast<int>(steps_.size()); }
  const std::deque<SentStep>& steps() const { return steps_; }

  // Takes rank's answer off the books; a step leaves when all members have answered. Samples and
  // errors that were not asked for are left out. An error, after which the epoch is void: the step
  // failed as a whole (its own status), it is not the one that is due from that rank, or a token or
  // route is out of range.
  // The answer came at `now`.
  absl::StatusOr<StepAnswer> Match(int32_t rank, StepResult result, const WorkerFacts& cell,
                                   absl::Time now);

 private:
  StepId last_id_ = 0;          // sent in this epoch
  std::deque<SentStep> steps_;  // oldest first, consecutive ids
};

}  // namespace pregate::scheduler

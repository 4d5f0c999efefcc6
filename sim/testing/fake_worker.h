// A worker without weights that holds the scheduler to the contract (docs/CONTRACTS.md,
// "Step plan"): slots, block ownership, contiguous rows, block coverage, late rows, one run-ahead
// plan. What it finds wrong it keeps as a violation.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/step/control.h"
#include "sim/testing/fake_model.h"

namespace pregate::scheduler {

struct FakeWorkerConfig {
  int32_t rank = 0;
  FakeModel model;
  int32_t kv_blocks = 64;
  int32_t seq_slots = 8;
  int32_t step_tokens = 64;
  int32_t context_tokens = 256;
  bool late_rows =
      true;  // false: lockstep, so late rows and a second unanswered plan are violations
  bool routes_samples = true;  // false: no replica
  int32_t num_layers = 3;
  int32_t unit_slots = 0;  // 0: everything fits
  // How long it reads an expert that was another rank's before it can form.
  absl::Duration expert_load = absl::ZeroDuration();
  std::vector<ExpertId> experts;  // read at start
  // Its copy is damaged: the worker refuses the Form for which it reads it, ends, and is back
  // after `restart`.
  std::optional<ExpertId> damaged;
  absl::Duration restart = absl::Seconds(1);
};

// Not thread-safe. Time is its owner's: plans queue up until RunNext.
class FakeWorker {
 public:
  FakeWorker(const FakeWorkerConfig& config, uint64_t incarnation);

  Hello MakeHello() const;
  Formed OnForm(const Form& form);
  // False when the plan is of another epoch and so dropped.
  bool OnPlan(StepPlan plan);
  bool has_work() const { return !queue_.empty(); }
  // Of the step that runs, or the last one: the heartbeat.
  Progress LastProgress() const { return {epoch_, has_work() ? last_step_ + 1 : last_step_}; }
  // REQUIRES: has_work().
  StepResult RunNext();

  int num_open() const;
  int64_t right_drafts() const { return right_drafts_; }
  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t incarnation() const { return incarnation_; }

 private:
  struct Slot {
    bool open = false;
    SequenceAdd add;
    std::vector<BlockId> blocks;
    int32_t length = 0;
    StepId sample_step = 0;
    int32_t sample_position = -1;
    TokenId sample_token = 0;
    ExpertId sample_route = kNoRoute;
  };
  struct Cell {  // the KV of one position
    SeqId seq_id = 0;
    int32_t position = -1;
    FakeModel::State after;
  };

  bool Expect(bool condition, const std::string& what);
  bool Apply(const StepPlan& plan, StepResult* result);
  bool Drop(int32_t slot);
  bool Add(const SequenceAdd& add);
  bool SetBlocks(const BlockTableUpdate& update);
  bool RunRow(const Row& row, StepId step_id, StepResult* result);
  bool Load(const Wanted& wanted, StepResult* result);
  bool CheckRow(const Row& row, const Slot& slot, StepId step_id);
  bool Home(const Slot& slot) const { return slot.add.home_rank == config_.rank; }
  Cell& CellAt(const Slot& slot, int32_t position);

  const FakeWorkerConfig config_;
  const uint64_t incarnation_;
  Epoch epoch_ = 0;
  StepId last_step_ = 0;
  bool void_ = true;
  std::deque<StepPlan> queue_;
  std::vector<Slot> slots_;
  std::vector<Cell> cells_;       // [kv_blocks x kKvBlockTokens]; outlives epochs
  std::vector<int32_t> owner_;    // [kv_blocks] slot or -1
  std::vector<UnitId> resident_;  // outlives epochs
  uint64_t last_event_ = 0;
  int64_t right_drafts_ = 0;
  std::vector<std::string> violations_;
};

}  // namespace pregate::scheduler

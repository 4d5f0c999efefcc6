// A worker without weights: the production policies (sequence table, plan check, exchange plan,
// residency, lease) around a model that is arithmetic. It holds the scheduler to the contract
// (docs/CONTRACTS.md, "Step plan") more strictly than a worker does: who uses which block, that a
// history's KV is there and nobody writes to a block that several use, routes that are the router's,
// late rows, one run-ahead plan. What it finds wrong it keeps as a violation.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/step/control.h"
#include "common/step/peer.h"
#include "expert_service/core/lease.h"
#include "expert_service/core/sequence_table.h"
#include "expert_service/core/step_limits.h"
#include "sim/expert_cache.h"
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
  absl::Duration unit_load = absl::Milliseconds(2);
  // How long it reads an expert that was another rank's before it can form.
  absl::Duration expert_load = absl::ZeroDuration();
  std::vector<ExpertId> experts;  // read at start
  // Its copy is damaged: the worker refuses the Form for which it reads it, ends, and is back
  // after `restart`.
  std::optional<ExpertId> damaged;
  absl::Duration restart = absl::Seconds(1);
};

// Not thread-safe. Time is its owner's: plans queue up until BeginStep, and what a step has done shows
// when its owner calls EndStep.
class FakeWorker {
 public:
  FakeWorker(const FakeWorkerConfig& config, uint64_t incarnation);

  Hello MakeHello() const;
  // Begins the Form's epoch, or says why not. No plan runs before OnForm.
  absl::Status Admit(LinkId link, const Form& form, absl::Time now);
  void OnRenew(LinkId link, absl::Time now) { lease_.Renew(link, now); }
  void OnDetach(LinkId link) { lease_.Release(link); }
  Formed OnForm(const Form& form);
  // False when the plan is of another epoch and so dropped.
  bool OnPlan(StepPlan plan);
  bool has_work() const { return !queue_.empty(); }
  // Of the step that runs, or the last one: the heartbeat.
  Progress LastProgress() const { return {epoch_, last_step_}; }
  struct Step {
    StepResult result;
    absl::Time loaded;  // its last layer's units are there
  };
  // REQUIRES: has_work().
  Step BeginStep(absl::Time now);
  void EndStep(absl::Time now, StepResult* result);
  std::vector<UnitEvent> Tick(absl::Time now);

  int num_open() const;
  Epoch epoch() const { return epoch_; }
  int64_t right_drafts() const { return right_drafts_; }
  int64_t found_tokens() const { return found_tokens_; }  // of all histories
  int64_t unit_loads() const { return cache_.counts().loads; }
  const std::vector<std::string>& violations() const { return violations_; }
  uint64_t incarnation() const { return incarnation_; }

 private:
  struct Cell {        // the KV of one position
    SeqId seq_id = 0;  // who wrote it
    int32_t position = -1;
    FakeModel::State after;
  };

  bool Expect(bool condition, const std::string& what);
  bool Expect(const absl::Status& status, const std::string& where) {
    return Expect(status.ok(), where + std::string(status.message()));
  }
  absl::Status Run(const StepPlan& plan, absl::Time now, Step* step);
  bool Apply(const StepPlan& plan, StepResult* result);
  void Drop(int32_t slot);
  bool Add(const SequenceAdd& add);
  bool SetBlocks(const BlockTableUpdate& update);
  bool HoldsHistory(const pregate::Sequence& sequence, const std::vector<Cell>& cells) const;
  bool SetWanted(const Wanted& wanted);
  bool CheckRowHere(const Row& row, StepId step_id);
  bool RunRow(const Row& row, StepId step_id, StepResult* result);
  std::vector<TokenLogprob> Logprobs(const FakeModel::State& state, TokenId token, int32_t k) const;
  bool FillReplica(const Row& row, const pregate::Sequence& sequence);
  std::optional<ExpertId> RunReplica(const pregate::Sequence& sequence, int32_t position,
                                     TokenId token);
  int32_t DraftsToRun(const Row& row, FakeModel::State state) const;
  bool DrawSamples(const Row& row, FakeModel::State state, pregate::Sequence* sequence,
                   StepResult* result);
  absl::Time RunLayers(const StepPlan& plan, absl::Time now);
  std::vector<ExpertId> ExpertSet(const StepPlan& plan);
  int32_t IndexOf(int32_t rank) const;  // among the members
  bool Home(const pregate::Sequence& s) const { return s.home_rank == config_.rank; }
  bool IsWhole() const { return config_.unit_slots == 0; }
  static size_t CellIndex(const pregate::Sequence& sequence, int32_t position) {
    const size_t block = sequence.blocks[position / kKvBlockTokens];
    return block * kKvBlockTokens + position % kKvBlockTokens;
  }
  // False: the block is another's too.
  bool Write(std::vector<Cell>& cells, const pregate::Sequence& sequence, int32_t position,
             const FakeModel::State& after);
  // The state before `position`; null: the KV there is not the sequence's.
  const FakeModel::State* Before(const std::vector<Cell>& cells, const pregate::Sequence& sequence,
                                 int32_t position) const;

  const FakeWorkerConfig config_;
  const uint64_t incarnation_;
  StepLimits limits_;
  Placement placement_;
  Lease lease_;
  Epoch epoch_ = 0;
  StepId last_step_ = 0;
  bool void_ = true;
  bool runs_ = false;  // a step
  std::deque<StepPlan> queue_;
  SequenceTable table_;
  std::vector<SequenceAdd> adds_;    // [seq_slots] how its sequence is drawn
  std::vector<StepId> sampled_in_;   // [seq_slots] the last step that samples it
  std::vector<Cell> cells_;          // [kv_blocks x kKvBlockTokens]; outlives epochs
  std::vector<Cell> replica_cells_;  // the same of the router's replica
  std::vector<int32_t> users_;       // [kv_blocks] slots whose table names it
  absl::flat_hash_map<SeqId, std::vector<TokenId>> histories_;  // of open sequences
  std::string kv_owner_;  // the scheduler that has formed since kv_since_
  Epoch kv_since_ = 0;
  int64_t found_tokens_ = 0;
  sim::ExpertCache cache_;  // outlives epochs
  int64_t right_drafts_ = 0;
  std::vector<std::string> violations_;
};

}  // namespace pregate::scheduler

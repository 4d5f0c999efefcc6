// The scheduler's idea of what the workers hold: slots and block tables in this epoch, who runs and
// who waits, and the prefixes whose KV outlives both. Proposals become step plans here and nowhere
// else.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/types/span.h"
#include "common/step/plan.h"
#include "scheduler_service/core/kv_blocks.h"
#include "scheduler_service/core/planner.h"
#include "scheduler_service/core/sequence.h"
#include "scheduler_service/core/waiting_line.h"

namespace pregate::scheduler {

// What the answer to a plan's row must look like.
struct SentRow {
  SeqId seq_id = 0;
  int32_t home_rank = 0;
  int32_t sample_position = -1;  // of the first sample; -1: the row does not sample
  int32_t drafts = 0;            // so many more samples may follow
  int32_t position = 0;
  int32_t scores = 0;  // positions from there on that it scores
  int32_t end = 0;     // the position behind its committed tokens
};

struct CommittedStep {
  StepPlan plan;
  std::vector<SentRow> rows;
  int32_t num_tokens = 0;
  bool has_late_rows = false;
  bool decodes_only = true;       // no prefill
  int32_t num_decodes = 0;        // rows of one token that samples the next, drafts aside
  std::vector<ExpertId> experts;  // that the rows' known routes name, ascending
};

// Borrows sequences from Enqueue to Remove. Not thread-safe.
class Batch {
 public:
  // Without a prefix cache every sequence computes all of its tokens.
  explicit Batch(bool prefix_cache = true) : prefix_cache_(prefix_cache) {}

  // A new epoch: empty tables with these blocks and slots. What ran waits, to be planned anew, and
  // finds at the ranks what was computed before, in this epoch or an earlier one.
  void Reset(absl::Span<const RankBlocks> ranks, int32_t seq_slots);
  // What the rank held is gone. REQUIRES: it is no member.
  void Forget(int32_t rank);

  // REQUIRES: its first token is routed.
  void Enqueue(Sequence* sequence);
  // Finished: its blocks are free at once, its slot is dropped with the next plan (steps run in
  // order, so a step that still uses them is over by then).
  void Remove(Sequence* sequence);

  // `base` carries what the batch does not know: step id, budget, limits, late rows. Valid until
  // the next change.
  PlannerView View(PlannerView base);
  CommittedStep Commit(const Proposal& proposal, Epoch epoch, StepId step_id);
  // Its row has been answered with so many samples, all but the last of them drafts that were right.
  // REQUIRES: they are not appended yet.
  void OnSamples(Sequence* sequence, int32_t count);
  // A row that does not sample, with so many tokens up to its end, has been answered.
  void OnComputed(Sequence* sequence, int32_t end);
  // A row of it has failed: nobody shall find what it used. It may be at fault, or its blocks.
  void Distrust(Sequence* sequence);

  absl::Span<const Sequence* const> running() const {
    return absl::MakeConstSpan(running_.data(), running_.size());
  }
  bool has_drops() const { return !drops_.empty(); }
  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  int32_t num_waiting() const { return static_cast<int32_t>(waiting_.size()); }
  int32_t num_free_slots() const { return static_cast<int32_t>(free_slots_.size()); }
  // Tokens of running sequences that could be sent as far as their routes are concerned.
  int64_t num_routed_ahead() const;
  // Of the members.
  int64_t num_blocks() const;
  int64_t num_blocks_used() const;
  int64_t num_blocks_cached() const;
  // Of blocks from the cache, since the start.
  int64_t num_evictions() const;

 private:
  using SequenceIter = std::vector<Sequence*>::iterator;

  KvBlocks& BlocksOf(int32_t rank);
  void Publish(Sequence* sequence);
  void LookUp(Sequence* sequence);
  SequenceIter FindRunning(SeqId id);
  void Release(Sequence* sequence);
  void Preempt(SeqId id);
  void Add(const ProposedAdd& add, StepPlan* plan);
  void Reuse(Sequence* sequence, int32_t num_blocks);
  BlockTableUpdate Grow(const ProposedBlocks& blocks);
  void AddRow(const ProposedRow& row, CommittedStep* step);

  const bool prefix_cache_;
  StepId last_step_ = 0;  // committed
  std::vector<int32_t> members_;
  absl::btree_map<int32_t, KvBlocks> kv_;  // by rank; of members, and of those that were
  int64_t forgotten_evictions_ = 0;
  std::vector<int32_t> free_slots_;  // the last one is given first
  std::vector<int32_t> drops_;       // slots that the workers still hold
  std::vector<Sequence*> running_;   // by id
  WaitingLine waiting_;
  std::vector<RankBlocks> view_blocks_;
  std::vector<const Sequence*> view_waiting_;
};

}  // namespace pregate::scheduler

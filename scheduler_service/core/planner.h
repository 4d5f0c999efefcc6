// What the next step should hold. A planner proposes and changes nothing; Batch::Commit alone makes
// it so.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/plan.h"
#include "scheduler_service/core/kv_blocks.h"
#include "scheduler_service/core/load_cost.h"
#include "scheduler_service/core/route_habits.h"
#include "scheduler_service/core/sequence.h"
#include "scheduler_service/core/step_cost.h"

namespace pregate::scheduler {

struct RankBlocks {
  int32_t rank = 0;
  int32_t num_blocks = 0;        // of the rank in all; in a view: those that are free
  const KvBlocks* kv = nullptr;  // in a view: what it holds
};

// Where an expert's units are, as the residency mirror knows it.
struct ExpertPlace {
  std::vector<int32_t> ranks;  // that hold it, ascending
  int32_t units_resident = 0;  // of its units, on the first of them
  bool resident = true;        // all of them
  int32_t units_absent = 0;    // the others
};

// Everything that a policy may look at. Spans are valid during the call.
struct PlannerView {
  StepId step_id = 0;           // of the step to plan
  int32_t step_tokens = 0;      // token budget of one step
  int32_t free_slots = 0;       // sequences that may be added
  int32_t preemptions_max = 0;  // of one sequence, by KV exhaustion
  bool late_rows = false;  // the step before is still unanswered and its samples may be built upon
  const StepCost* drafts_cost = nullptr;  // null: rows take no drafts
  const LoadCost* load_cost = nullptr;    // null: not known
  const RouteHabits* habits = nullptr;    // null: not known
  int32_t expert_slots = 0;  // experts whose units fit at once, over all ranks; 0: all of them
  absl::Span<const RankBlocks> free_blocks;
  absl::Span<const ExpertPlace> experts;      // by id; empty: dense, or nothing is known
  absl::Span<const Sequence* const> running;  // oldest first
  // By priority, turn, then age (waiting_line.h). The first of the queue, not all of it: a few more than there are free slots,
  // since one that cannot be added now may be passed over.
  absl::Span<const Sequence* const> waiting;
};

struct ProposedAdd {
  SeqId seq_id = 0;
  int32_t home_rank = 0;
  int32_t found_blocks = 0;  // that it need not compute: its home has them in its cache
};
struct ProposedBlocks {
  SeqId seq_id = 0;
  int32_t count = 0;  // more than it has, those that were found included
};
struct ProposedRow {
  SeqId seq_id = 0;
  int32_t position = 0;
  int32_t count = 0;
  bool late = false;
  Emit emit = Emit::kNone;
  int32_t drafts = 0;  // of the sequence's, behind its tokens
};

// Applied in this order: preempt, add, blocks, rows.
struct Proposal {
  std::vector<SeqId> preempt;
  std::vector<ProposedAdd> add;
  std::vector<ProposedBlocks> blocks;
  std::vector<ProposedRow> rows;
  // That should be resident for the steps to come, the most urgent first and as many as fit; empty:
  // the policy has no opinion.
  std::vector<ExpertId> experts;
  std::vector<Wanted> wanted;
  bool empty() const { return preempt.empty() && rows.empty() && wanted.empty(); }
};

// A policy. Pure: the same view gives the same proposal. What holds for all of them (builder.h has
// the mechanics):
//   - No more tokens than the budget, no more sequences than slots; a row has its blocks.
//   - A row holds tokens whose routes are known; only the last known token of a sequence emits.
//   - One that needs a block when none is free preempts a younger one of its home rank, of the lowest
//     priority there is and then the youngest; the youngest itself waits. A new one needs blocks for
//     all its tokens, and leaves one to each that runs; blocks that it finds in use cost nothing.
//   - One whose client runs nothing need not wait for others to end: a client that runs several gives
//     up its youngest for it, of the lowest priority that is not above the newcomer's.
//   - Preemptions are bounded: a sequence that was preempted preemptions_max times comes back only
//     when the blocks suffice for it and every older one to their ends, and nothing older comes in
//     afterwards that would break this.
//   - Prompt tokens whose log-probabilities are wanted make rows of their own, kScoredTokensMax a step.
//   - Drafts take what budget and blocks the rows leave, and preempt nobody.
//   - When any running sequence could have a row, some sequence has one.
//   - A new sequence's home is the rank that has most of it computed already, else the one that holds
//     the expert which most of its prompt names, load permitting.
//   - One that begins as another does which is being computed waits for that, and computes only the
//     rest.
class Planner {
 public:
  virtual ~Planner() = default;
  virtual Proposal Propose(const PlannerView& view) const = 0;
};

// First come, first served, with chunked prefill:
//   1. a decode token (or a late row) for every running sequence, oldest first: the oldest always
//      advances.
//   2. prefill chunks of running sequences, oldest first, in what is left of the budget.
//   3. unless something was preempted: waiting sequences in their order, while slots, budget and
//      blocks last.
// REQUIRES: no more running sequences than step_tokens, else the youngest get no row.
class FcfsPlanner final : public Planner {
 public:
  Proposal Propose(const PlannerView& view) const override;
};

}  // namespace pregate::scheduler

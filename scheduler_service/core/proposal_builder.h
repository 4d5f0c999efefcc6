// One proposal in the making: what is left of budget, slots and blocks. Policies decide who gets a
// row and in which order; the rules that every proposal keeps (planner.h) are kept here.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/base/request_limits.h"
#include "scheduler_service/core/planner.h"

namespace pregate::scheduler {

// Not thread-safe. `view` outlives it. Running sequences are named by their index in view.running.
// REQUIRES: rows are given oldest first, so that no sequence loses a row that it has by preemption.
class ProposalBuilder {
 public:
  explicit ProposalBuilder(const PlannerView& view);

  // A decode token or a late row, if the sequence has one to run, budget is left and blocks can be
  // had. Preempts younger ones for a block.
  void AddDecodeRow(size_t running);
  // Up to `tokens_max` tokens of its prefill, within the budget. Its blocks are there since it was
  // added.
  void AddChunk(size_t running, int32_t tokens_max);
  // Adds a waiting sequence with its first chunk. False: no slot, budget or blocks for it, and so
  // for none behind it. REQUIRES: MayEnter; tokens_max > 0. It computes only what its home lacks. One
  // whose next block another is about to compute is passed over: in a step or two it need not.
  bool Admit(const Sequence& s, int32_t tokens_max);

  bool has_preempted() const { return !proposal_.preempt.empty(); }
  bool has_rows() const { return !proposal_.rows.empty(); }
  int32_t budget() const { return budget_; }
  // With drafts, as far as they pay and fit.
  Proposal Take();

  // Tokens that are known, routed and not sent yet.
  static int32_t Unsent(const Sequence& s) { return s.num_routed() - s.next_row(); }
  // One more token and it samples.
  static bool MayDecode(const Sequence& s) { return s.all_routed() && Unsent(s) == 1; }
  // The sample that a late row stands on comes from the very step before, and does not end the
  // sequence by its length.
  static bool MayRunLate(const PlannerView& view, const Sequence& s);
  static bool MayPrefill(const Sequence& s) { return Unsent(s) > 0 && !MayDecode(s); }
  static bool MayRun(const PlannerView& view, const Sequence& s) {
    return Unsent(s) > 0 || MayRunLate(view, s);
  }
  // Tokens that it would run, budget permitting. REQUIRES: MayRun.
  static int32_t TokensToRun(const Sequence& s) { return std::max(Unsent(s), 1); }
  // One that was preempted in the step before may have a sample under way; a new one may have no
  // route yet, or none but of tokens that it need not compute.
  static bool MayEnter(const Sequence& s) {
    return s.samples_in_flight == 0 && s.num_routed() > 0 &&
           (s.all_routed() || s.found == 0 || s.found + kKvBlockTokens <= s.num_routed());
  }

 private:
  // A sequence of the batch as the proposal leaves it. Those that ran come first, oldest first.
  struct Member {
    const Sequence* sequence;
    int32_t rank;
    int32_t num_blocks;
    bool preempted = false;
  };

  friend ProposalBuilder StartProposal(const PlannerView& view, const Sequence* newcomer,
                                       int32_t tokens_max);
  // As Admit, preempting as long as there is no room. REQUIRES: no row was given. False: there will
  // be none, and the builder is of no use.
  bool AdmitNewcomer(const Sequence& s, int32_t tokens_max);
  bool AwaitsOther(const Sequence& s) const;
  void AddRow(const Sequence& s, int32_t position, int32_t tokens_max);
  void AddDrafts();
  int32_t GrowFor(Member* member, int32_t position_max);
  bool MakeRoom(Member* member, int32_t num_blocks);
  bool PreemptYounger(const Member& than);
  bool PreemptOfTheLargest(const Sequence& newcomer);
  SeqId GuardedOn(int32_t rank) const;
  void Preempt(Member* victim);
  RankBlocks* HomeFor(const Sequence& s);
  int32_t BlocksToAdmit(const Sequence& s, const RankBlocks& home) const;
  int32_t UsersOf(const RankBlocks& rank, BlockId id) const;
  bool IsProtected(const Sequence& s) const { return s.preemptions >= view_.preemptions_max; }
  RankBlocks& FreeOf(int32_t rank);

  const PlannerView& view_;
  std::vector<RankBlocks> free_;
  // How many more use a block (by rank and id) after the proposal.
  absl::flat_hash_map<std::pair<int32_t, BlockId>, int32_t> more_users_;
  std::vector<Member> members_;
  int32_t budget_;
  int32_t scores_ = kScoredTokensMax;  // that the step may still compute
  int32_t slots_;
  Proposal proposal_;
};

// The first waiting sequence that may enter while its client runs nothing; null: none.
const Sequence* Newcomer(const PlannerView& view);

// An empty one, or one that admits the newcomer (null: none) where there is room for it only if
// the clients that run most make it: their youngest are preempted then, as long as they may be and
// each client keeps one that runs.
ProposalBuilder StartProposal(const PlannerView& view, const Sequence* newcomer,
                              int32_t tokens_max);

}  // namespace pregate::scheduler

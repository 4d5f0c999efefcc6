// Steps with few experts, for where not all of them fit at once: a step then waits for what it
// names and does not find, so tokens of the same expert should share the wait.
#pragma once

#include "scheduler_service/core/planner.h"

namespace pregate::scheduler {

struct ByExpertOptions {
  int32_t age_steps = 8;      // that a sequence which could run may be passed over
  int32_t experts_max = 0;    // that a step names by choice; 0: as many as fit at once
  int32_t chunk_tokens = 32;  // least prefill chunk that a change of route may cut
};

// Chooses the step's expert set, then gives rows within it, oldest first:
//   1. what must be in: the experts of sequences that were passed over age_steps times (for a
//      prompt those of its whole chunk);
//   2. resident experts, most eligible tokens first (even none: a prompt may come to them), up to
//      experts_max. Others wait: they are prefetched meanwhile, or become old;
//   3. if that lets nobody run, the expert with the most eligible tokens.
// Rows: decode tokens whose route is in the set; prefill chunks up to the first route that is not,
// if they are worth a row of their own (chunk_tokens, or the rest of the prompt); old sequences in
// any case, uncut. A late row has no route yet and goes by the guess that its last one stays; where
// experts do not fit there are no late rows, so a guess never costs a load.
//
// Where all experts fit (and experts_max is 0) this is FcfsPlanner: holding back a token that fits
// the budget then saves no load, and the step's fixed cost is paid again to run it later.
//
// No sequence that could run is passed over more than age_steps times in a row: a decode token as
// long as it gets its KV block, a prefill chunk as long as older ones leave it budget.
class ByExpertPlanner final : public Planner {
 public:
  explicit ByExpertPlanner(const ByExpertOptions& options) : options_(options) {}

  Proposal Propose(const PlannerView& view) const override;

 private:
  const ByExpertOptions options_;
};

}  // namespace pregate::scheduler

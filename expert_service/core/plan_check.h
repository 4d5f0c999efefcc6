// Is a step plan one that this worker can run? Plans come from another process, so everything is
// checked before use.
//
// Two kinds of error (docs/CONTRACTS.md, "Step plan"). The step as a whole is wrong when it cannot
// be told which sequence is meant, or when running part of it would leave scheduler and worker with
// different ideas of the slots: nothing of such a plan is applied and the epoch is void. Everything
// else belongs to one sequence: it alone fails.
//
//   CheckStepOrder   epoch and step_id                                             step
//   CheckPlan        slots open and free, counts, the token budget, wanted units   step
//   CheckAdd         sampling, bias, bans, history                                 sequence
//   CheckBlocks      block ids, no hole in the table                               sequence
//   CheckRow         contiguous, tokens, routes, targets, blocks, late, drafts,    sequence
//                    mask, logprobs
//
// CheckPlan runs against the table before the plan; the others run while the plan is applied:
// drops, adds, blocks, then rows in their order.
#pragma once

#include "absl/status/status.h"
#include "common/step/plan.h"
#include "expert_service/core/sequence_table.h"
#include "expert_service/core/step_limits.h"

namespace pregate {

// FAILED_PRECONDITION unless the plan is step `last_step` + 1 of `epoch`.
absl::Status CheckStepOrder(const StepPlan& plan, Epoch epoch, StepId last_step);

absl::Status CheckPlan(const StepPlan& plan, const StepLimits& limits, const SequenceTable& table);

absl::Status CheckAdd(const SequenceAdd& add, const StepLimits& limits);

// `sequence` is open.
absl::Status CheckBlocks(const BlockTableUpdate& update, const StepLimits& limits,
                         const Sequence& sequence);

// `sequence` is open and has taken the plan's earlier rows.
absl::Status CheckRow(const Row& row, const StepLimits& limits, const Sequence& sequence);

}  // namespace pregate

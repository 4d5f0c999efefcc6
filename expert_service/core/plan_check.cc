#include "expert_service/core/plan_check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

int32_t BlocksFor(int32_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

absl::Status Invalid(absl::string_view field, int64_t value, absl::string_view must) {
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", value, ", must be ", must));
}

// Follows drops and adds to know which slots the plan's blocks and rows find open.
class SlotsAfter {
 public:
  explicit SlotsAfter(const SequenceTable& table) : table_(table), open_(table.seq_slots()) {
    for (int32_t slot = 0; slot < table.seq_slots(); ++slot) open_[slot] = table.at(slot).open;
  }

  absl::Status Drop(int32_t slot) {
    RETURN_IF_ERROR(MustBeOpen("drop", slot));
    open_[slot] = false;
    return absl::OkStatus();
  }
  absl::Status Add(int32_t slot) {
    if (!table_.InRange(slot)) return OutOfRange("add.seq_slot", slot);
    if (open_[slot])
      return absl::InvalidArgumentError(absl::StrCat("add.seq_slot ", slot, " is taken"));
    open_[slot] = true;
    return absl::OkStatus();
  }
  absl::Status MustBeOpen(absl::string_view field, int32_t slot) const {
    if (!table_.InRange(slot)) return OutOfRange(field, slot);
    if (!open_[slot]) {
      return absl::InvalidArgumentError(
          absl::StrCat(field, " names slot ", slot, ", which is not open"));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status OutOfRange(absl::string_view field, int32_t slot) const {
    return Invalid(field, slot, absl::StrCat("below ", table_.seq_slots(), " and not negative"));
  }

  const SequenceTable& table_;
  std::vector<bool> open_;
};

absl::Status CheckRowBudget(const StepPlan& plan, const StepLimits& limits) {
  int64_t num_tokens = 0;
  for (const Row& row : plan.rows) {
    if (row.count < 1) return Invalid("rows.count", row.count, "positive");
    if (row.drafts < 0 || row.drafts > row.count) {
      return Invalid("rows.drafts", row.drafts, absl::StrCat("0..", row.count));
    }
    if (row.emit > Emit::kLogits)
      return Invalid("rows.emit", static_cast<int>(row.emit), "a known value");
    num_tokens += row.count;
  }
  if (num_tokens > limits.step_tokens) {
    return Invalid("the number of tokens in rows", num_tokens,
                   absl::StrCat("at most ", limits.step_tokens));
  }
  return absl::OkStatus();
}

// A slot is sampled once a step, by its last row.
absl::Status CheckSamplesLast(const StepPlan& plan, int32_t seq_slots) {
  std::vector<bool> sampled(seq_slots);
  for (const Row& row : plan.rows) {
    if (sampled[row.seq_slot]) {
      return absl::InvalidArgumentError(
          absl::StrCat("slot ", row.seq_slot, " has a row after the one that samples"));
    }
    sampled[row.seq_slot] = row.emit == Emit::kSample;
  }
  return absl::OkStatus();
}

absl::Status CheckWanted(const Wanted& wanted, const StepLimits& limits) {
  const int64_t num_units = int64_t{limits.num_layers} * limits.num_experts;
  if (static_cast<int64_t>(wanted.units.size()) > num_units) {
    return Invalid("the size of wanted.units", wanted.units.size(),
                   absl::StrCat("at most ", num_units));
  }
  if (wanted.load_first < 0 || wanted.load_first > static_cast<int64_t>(wanted.units.size())) {
    return Invalid("wanted.load_first", wanted.load_first,
                   absl::StrCat("0..", wanted.units.size()));
  }
  for (const UnitId& unit : wanted.units) {
    if (unit.layer < 0 || unit.layer >= limits.num_layers) {
      return Invalid("wanted.units.layer", unit.layer, absl::StrCat("0..", limits.num_layers - 1));
    }
    if (unit.expert < 0 || unit.expert >= limits.num_experts) {
      return Invalid("wanted.units.expert", unit.expert,
                     absl::StrCat("below ", limits.num_experts));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckIds(absl::string_view field, const std::vector<int32_t>& ids, int32_t bound) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= bound) {
      return Invalid(absl::StrCat(field, "[", i, "]"), ids[i], absl::StrCat("0..", bound - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSize(absl::string_view field, size_t size, size_t want) {
  if (size == want) return absl::OkStatus();
  return Invalid(absl::StrCat("the size of ", field), static_cast<int64_t>(size),
                 absl::StrCat(want));
}

// `key` of each element is above the one before.
template <class T, class Key>
absl::Status CheckAscending(absl::string_view field, const std::vector<T>& list, Key key) {
  for (size_t i = 1; i < list.size(); ++i) {
    if (std::invoke(key, list[i - 1]) < std::invoke(key, list[i])) continue;
    return Invalid(absl::StrCat(field, "[", i, "]"), std::invoke(key, list[i]),
                   absl::StrCat("above the one before, ", std::invoke(key, list[i - 1])));
  }
  return absl::OkStatus();
}

absl::Status CheckBanned(const SequenceAdd& add, const StepLimits& limits) {
  const auto count = static_cast<int64_t>(add.banned.size());
  const int64_t most = std::min<int64_t>(kBannedTokensMax, limits.vocab_size - 1);
  if (count > most) {
    return Invalid("the size of banned", count, absl::StrCat("at most ", most));
  }
  RETURN_IF_ERROR(CheckIds("banned", add.banned, limits.vocab_size));
  return CheckAscending("banned", add.banned, std::identity());
}

absl::Status CheckLateRow(const Row& row, const StepLimits& limits, const Sequence& sequence) {
  if (row.count != 1) return Invalid("a late row's count", row.count, "1");
  RETURN_IF_ERROR(CheckSize("a late row's tokens", row.tokens.size(), 0));
  RETURN_IF_ERROR(CheckSize("a late row's routes", row.routes.size(), 0));
  if (limits.num_experts > 0 && !limits.has_replica) {
    return absl::FailedPreconditionError(
        "a late row needs the router's replica, the model has no router");
  }
  if (sequence.sampled_position != row.position) {
    return absl::FailedPreconditionError(
        absl::StrCat("a late row at position ", row.position,
                     " needs the sample there, the last sample is at ", sequence.sampled_position));
  }
  return absl::OkStatus();
}

absl::Status CheckKnownRow(const Row& row, const StepLimits& limits) {
  RETURN_IF_ERROR(CheckSize("tokens", row.tokens.size(), row.count));
  RETURN_IF_ERROR(CheckIds("tokens", row.tokens, limits.vocab_size));
  RETURN_IF_ERROR(
      CheckSize("routes", row.routes.size(), limits.num_experts > 0 ? row.committed() : 0));
  return CheckIds("routes", row.routes, limits.num_experts);
}

// REQUIRES: drafts in 0..count.
absl::Status CheckDrafts(const Row& row, const StepLimits& limits, const Sequence& sequence) {
  if (row.drafts == 0) return absl::OkStatus();
  if (row.emit != Emit::kSample)
    return Invalid("drafts", row.drafts, "0 in a row that does not sample");
  if (row.late || row.committed() == 0) {
    return Invalid("drafts", row.drafts, "fewer than the tokens of a row that is not late");
  }
  if (limits.num_experts > 0 && !limits.has_replica) {
    return absl::FailedPreconditionError(
        "drafts need the router's replica, the model has no router");
  }
  if (sequence.sampling.depends_on_tokens()) {
    return Invalid("drafts", row.drafts, "0 for a sequence with penalties");
  }
  return absl::OkStatus();
}

absl::Status CheckAllowed(const Row& row, const StepLimits& limits) {
  if (row.allowed.empty()) return absl::OkStatus();
  if (row.emit != Emit::kSample || row.late || row.drafts > 0) {
    return absl::InvalidArgumentError(
        "allowed is for a row that samples, is not late and has no drafts");
  }
  RETURN_IF_ERROR(CheckSize("allowed", row.allowed.size(), (limits.vocab_size + 31) / 32));
  const int32_t tail = limits.vocab_size % 32;  // bits of the last word, 0: all
  for (size_t word = 0; word < row.allowed.size(); ++word) {
    const bool last = word + 1 == row.allowed.size();
    const uint32_t mask = last && tail != 0 ? (uint32_t{1} << tail) - 1 : ~uint32_t{0};
    if ((row.allowed[word] & mask) != 0) return absl::OkStatus();
  }
  return absl::InvalidArgumentError("allowed names no token");
}

absl::Status CheckPositions(const Row& row, const StepLimits& limits, const Sequence& sequence) {
  if (row.position != sequence.length) {
    return Invalid("position", row.position,
                   absl::StrCat("the sequence's length ", sequence.length));
  }
  // A sample needs a block too: the replica's KV of it is written in this step.
  const int64_t tokens = int64_t{row.position} + row.count + (row.emit == Emit::kSample ? 1 : 0);
  if (tokens > limits.context_tokens) {
    return Invalid("position + count", tokens,
                   absl::StrCat("within the context of ", limits.context_tokens));
  }
  if (tokens > sequence.capacity_tokens()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the row needs ", tokens, " tokens in blocks, has ", sequence.blocks.size(),
                     " blocks of ", kKvBlockTokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStepOrder(const StepPlan& plan, Epoch epoch, StepId last_step) {
  if (plan.epoch != epoch) {
    return absl::FailedPreconditionError(
        absl::StrCat("plan of epoch ", plan.epoch, " in epoch ", epoch));
  }
  if (plan.step_id != last_step + 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("step_id ", plan.step_id, " follows ", last_step, ": a new epoch is needed"));
  }
  return absl::OkStatus();
}

absl::Status CheckPlan(const StepPlan& plan, const StepLimits& limits, const SequenceTable& table) {
  SlotsAfter slots(table);
  for (int32_t slot : plan.drop) RETURN_IF_ERROR(slots.Drop(slot));
  for (const SequenceAdd& add : plan.add) {
    RETURN_IF_ERROR(slots.Add(add.seq_slot));
    const auto& members = limits.members;
    if (std::find(members.begin(), members.end(), add.home_rank) != members.end()) continue;
    return Invalid("add.home_rank", add.home_rank, "a member of the epoch");
  }
  for (const BlockTableUpdate& update : plan.blocks) {
    RETURN_IF_ERROR(slots.MustBeOpen("blocks.seq_slot", update.seq_slot));
  }
  for (const Row& row : plan.rows) RETURN_IF_ERROR(slots.MustBeOpen("rows.seq_slot", row.seq_slot));
  RETURN_IF_ERROR(CheckRowBudget(plan, limits));
  RETURN_IF_ERROR(CheckSamplesLast(plan, table.seq_slots()));
  for (const Wanted& wanted : plan.wanted) RETURN_IF_ERROR(CheckWanted(wanted, limits));
  return absl::OkStatus();
}

absl::Status CheckAdd(const SequenceAdd& add, const StepLimits& limits) {
  if (add.history.size() >= static_cast<size_t>(limits.context_tokens)) {
    return Invalid("the size of history", static_cast<int64_t>(add.history.size()),
                   absl::StrCat("below the context of ", limits.context_tokens));
  }
  RETURN_IF_ERROR(CheckIds("history", add.history, limits.vocab_size));
  if (add.generated_from < 0) {
    return Invalid("generated_from", add.generated_from, "not negative");
  }
  RETURN_IF_ERROR(CheckLogitBias(add.logit_bias, limits.vocab_size));
  RETURN_IF_ERROR(CheckAscending("logit_bias", add.logit_bias, &LogitBias::token));
  RETURN_IF_ERROR(CheckBanned(add, limits));
  return CheckSampling(add.sampling);
}

absl::Status CheckBlocks(const BlockTableUpdate& update, const StepLimits& limits,
                         const Sequence& sequence) {
  const int64_t held = static_cast<int64_t>(sequence.blocks.size());
  if (update.first_index < 0 || update.first_index > held) {
    return Invalid("blocks.first_index", update.first_index,
                   absl::StrCat("0..", held, ", the blocks that the sequence has"));
  }
  const int64_t end = update.first_index + static_cast<int64_t>(update.ids.size());
  if (end > BlocksFor(limits.context_tokens)) {
    return Invalid("the number of blocks", end,
                   absl::StrCat("at most ", BlocksFor(limits.context_tokens)));
  }
  return CheckIds("blocks.ids", update.ids, limits.kv_blocks);
}

absl::Status CheckRow(const Row& row, const StepLimits& limits, const Sequence& sequence) {
  if (sequence.failed()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the sequence has failed before: ", sequence.error));
  }
  RETURN_IF_ERROR(CheckPositions(row, limits, sequence));
  RETURN_IF_ERROR(CheckDrafts(row, limits, sequence));
  RETURN_IF_ERROR(CheckAllowed(row, limits));
  RETURN_IF_ERROR(row.late ? CheckLateRow(row, limits, sequence) : CheckKnownRow(row, limits));
  RETURN_IF_ERROR(
      CheckSize("targets", row.targets.size(), row.emit == Emit::kScore ? row.count : 0));
  RETURN_IF_ERROR(CheckIds("targets", row.targets, limits.vocab_size));
  if (row.logprobs_k < 0 || row.logprobs_k > limits.logprobs_max) {
    return Invalid("logprobs_k", row.logprobs_k, absl::StrCat("0..", limits.logprobs_max));
  }
  if (row.logprobs_k > 0 && row.emit != Emit::kSample && row.emit != Emit::kScore) {
    return Invalid("logprobs_k", row.logprobs_k, "0 in a row that neither samples nor scores");
  }
  return absl::OkStatus();
}

}  // namespace pregate

#include "scheduler_service/engine/step_ledger.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"
#include "common/base/status.h"

namespace pregate::scheduler {
namespace {

absl::Status CheckLogprobs(SeqId seq_id, absl::Span<const TokenLogprob> logprobs,
                           const WorkerFacts& cell) {
  for (const TokenLogprob& entry : logprobs) {
    if (entry.token >= 0 && entry.token < cell.vocab_size && std::isfinite(entry.logprob)) continue;
    return absl::OutOfRangeError(absl::StrCat("sequence ", seq_id, ": log-probability ",
                                              entry.logprob, " of token ", entry.token));
  }
  return absl::OkStatus();
}

absl::Status CheckSample(const Sample& sample, const WorkerFacts& cell) {
  if (sample.token < 0 || sample.token >= cell.vocab_size) {
    return absl::OutOfRangeError(absl::StrCat("sample of sequence ", sample.seq_id, ": token ",
                                              sample.token, ", must be 0..", cell.vocab_size - 1));
  }
  if (sample.route != kNoRoute && (sample.route < 0 || sample.route >= cell.num_experts)) {
    return absl::OutOfRangeError(absl::StrCat("sample of sequence ", sample.seq_id, ": route ",
                                              sample.route, ", must be 0..", cell.num_experts - 1));
  }
  return CheckLogprobs(sample.seq_id, sample.logprobs, cell);
}

// How many of the first are what the row asked for: one, and one more for each draft that is right.
int32_t CountSamples(const SentRow& row, absl::Span<const Sample> samples) {
  int32_t count = 0;
  for (const Sample& sample : samples) {
    if (count > row.drafts || sample.seq_id != row.seq_id ||
        sample.position != row.sample_position + count) {
      break;
    }
    ++count;
  }
  return count;
}

// Sorts what the rank says by the rows that asked for it.
absl::StatusOr<StepAnswer> MatchRows(const SentStep& step, int32_t rank, StepResult result,
                                     const WorkerFacts& cell) {
  StepAnswer answer;
  answer.sent_at = step.sent_at;
  answer.num_rows = static_cast<int32_t>(step.rows.size());
  answer.num_tokens = step.num_tokens;
  answer.decodes_only = step.decodes_only;
  answer.num_decodes = step.num_decodes;
  answer.num_drafts = step.num_drafts;
  answer.experts = step.experts;
  absl::flat_hash_map<SeqId, size_t> first_sample;
  for (size_t i = 0; i < result.samples.size(); ++i) {
    RETURN_IF_ERROR(CheckSample(result.samples[i], cell));
    first_sample.emplace(result.samples[i].seq_id, i);
  }
  absl::flat_hash_map<SeqId, RowScores*> scores;  // a sequence has one such row a step
  for (RowScores& row : result.scores) {
    for (const auto& top : row.top) RETURN_IF_ERROR(CheckLogprobs(row.seq_id, top, cell));
    scores.emplace(row.seq_id, &row);
  }
  absl::flat_hash_map<SeqId, RowError*> errors;
  for (RowError& error : result.row_errors) errors.emplace(error.seq_id, &error);

  for (const SentRow& row : step.rows) {
    if (row.home_rank != rank) continue;
    if (const auto it = errors.find(row.seq_id); it != errors.end()) {
      answer.errors.push_back(std::move(*it->second));
    } else if (row.scores > 0) {
      const auto of_row = scores.find(row.seq_id);
      const bool answered = of_row != scores.end() && of_row->second->position == row.position &&
                            of_row->second->top.size() == static_cast<size_t>(row.scores);
      if (answered) {
        answer.computed.push_back({row.seq_id, row.end});
        answer.scores.push_back(std::move(*of_row->second));
      } else {
        answer.unanswered.push_back(row.seq_id);
      }
    } else if (row.sample_position < 0) {
      answer.computed.push_back({row.seq_id, row.end});
    } else {
      const auto first = first_sample.find(row.seq_id);
      const size_t begin = first == first_sample.end() ? result.samples.size() : first->second;
      const int32_t count = CountSamples(row, absl::MakeSpan(result.samples).subspan(begin));
      if (count == 0) answer.unanswered.push_back(row.seq_id);
      answer.num_accepted += std::max(count - 1, 0);
      std::move(result.samples.begin() + begin, result.samples.begin() + begin + count,
                std::back_inserter(answer.samples));
    }
  }
  return answer;
}

// Without activities where those of `others` leave no room for them.
RankStep TakeRankStep(int32_t rank, absl::Time now, absl::Span<const RankStep> others,
                      StepResult& result) {
  RankStep step = {.rank = rank,
                   .incarnation = result.incarnation,
                   .begin_us = result.begin_us,
                   .step_us = result.step_us,
                   .answered = now,
                   .device_clock = result.device_clock};
  size_t num_activities = result.activities.size();
  for (const RankStep& other : others) num_activities += other.activities.size();
  if (num_activities <= kActivitiesKeptMax) step.activities = std::move(result.activities);
  return step;
}

}  // namespace

absl::StatusOr<StepAnswer> StepLedger::Match(int32_t rank, StepResult result,
                                             const WorkerFacts& cell, absl::Time now) {
  const auto due = std::find_if(steps_.begin(), steps_.end(), [&](const SentStep& step) {
    return std::find(step.awaiting.begin(), step.awaiting.end(), rank) != step.awaiting.end();
  });
  const StepId due_id = due == steps_.end() ? last_id_ + 1 : due->id;
  if (result.step_id < due_id) {
    StepAnswer stale;
    stale.stale = true;
    return stale;
  }
  if (result.step_id != due_id || due == steps_.end()) {
    return absl::FailedPreconditionError(absl::StrCat("rank ", rank, " answers step ",
                                                      result.step_id, ", the last one sent is ",
                                                      last_id_, ", the next one due ", due_id));
  }
  if (!result.status.ok()) return result.status;
  const int64_t step_us = result.step_us;
  const int32_t unique_experts = result.unique_experts;
  const UnitTally units = {result.unit_hits, result.unit_misses, result.stall_us};
  const std::vector<ExpertId> ran = std::move(result.experts);
  due->ranks.push_back(TakeRankStep(rank, now, due->ranks, result));
  ASSIGN_OR_RETURN(StepAnswer answer, MatchRows(*due, rank, std::move(result), cell));
  due->awaiting.erase(std::find(due->awaiting.begin(), due->awaiting.end(), rank));
  due->step_us_max = std::max(due->step_us_max, step_us);
  due->unique_experts += unique_experts;
  due->units.hits += units.hits;
  due->units.misses += units.misses;
  due->units.stall_us = std::max(due->units.stall_us, units.stall_us);
  answer.complete = due->awaiting.empty();
  answer.step_us_max = due->step_us_max;
  answer.unique_experts = due->unique_experts;
  answer.num_accepted = due->num_accepted += answer.num_accepted;
  answer.units = due->units;
  for (const ExpertId expert : ran) {
    const bool is_new = std::find(due->ran.begin(), due->ran.end(), expert) == due->ran.end();
    if (is_new && expert >= 0 && expert < cell.num_experts) due->ran.push_back(expert);
  }
  answer.ran = due->ran;
  if (answer.complete) answer.ranks = std::move(due->ranks);
  while (!steps_.empty() && steps_.front().awaiting.empty()) steps_.pop_front();
  return answer;
}

}  // namespace pregate::scheduler

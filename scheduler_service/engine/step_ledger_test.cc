#include "scheduler_service/engine/step_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <tuple>

#include "common/base/gateway_limits.h"

namespace pregate::scheduler {
namespace {

const absl::Time kNow = absl::FromUnixMicros(7);
const WorkerFacts kCell{.vocab_size = 100, .num_experts = 4};

SentStep Step(StepId id, std::vector<int32_t> ranks) {
  SentStep step;
  step.id = id;
  step.rows = {{11, 0, 5}, {12, 0, -1}, {13, 1, 9}};
  step.awaiting = std::move(ranks);
  return step;
}

StepResult Result(StepId id, std::vector<Sample> samples) {
  StepResult result;
  result.step_id = id;
  result.samples = std::move(samples);
  return result;
}

TEST(StepLedgerTest, TakesWhatWasAskedOfTheRank) {
  StepLedger ledger;
  ledger.Push(Step(1, {0, 1}));
  auto answer = ledger.Match(
      0, Result(1, {{13, 9, 7, 1, {}}, {11, 5, 8, 2, {}}, {99, 5, 8, 2, {}}}), kCell, kNow);
  ASSERT_TRUE(answer.ok());
  ASSERT_EQ(answer->samples.size(), 1u) << "another rank's and an unknown sequence's are left out";
  EXPECT_EQ(answer->samples[0].token, 8);
  EXPECT_TRUE(answer->unanswered.empty());
  EXPECT_EQ(ledger.size(), 1) << "rank 1 still owes";
  answer = ledger.Match(1, Result(1, {{13, 9, 7, kNoRoute, {}}}), kCell, kNow);
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(ledger.empty());
}

TEST(StepLedgerTest, AStepIsAsLongAsItsSlowestRankAndRunsTheExpertsOfAll) {
  StepLedger ledger;
  ledger.Push(Step(1, {0, 1}));
  StepResult first = Result(1, {{11, 5, 8, 2, {}}}), last = Result(1, {{13, 9, 7, 1, {}}});
  first.step_us = 900;
  first.unique_experts = 2;
  first.unit_hits = 5;
  first.unit_misses = 1;
  first.stall_us = 70;
  first.experts = {1, 3, 4, -1};
  last.step_us = 400;
  last.unique_experts = 1;
  last.unit_hits = 2;
  last.stall_us = 60;
  last.experts = {0, 3};
  first.activities = {{Activity::kLayers, 10, 700}, {Activity::kStall, 20, 70}};
  last.begin_us = 5;
  auto answer = ledger.Match(0, std::move(first), kCell, kNow);
  ASSERT_TRUE(answer.ok());
  EXPECT_FALSE(answer->complete);
  answer = ledger.Match(1, std::move(last), kCell, kNow);
  ASSERT_TRUE(answer.ok());
  EXPECT_TRUE(answer->complete);
  EXPECT_EQ(answer->step_us_max, 900);
  EXPECT_EQ(answer->unique_experts, 3);
  EXPECT_EQ(answer->units.hits, 7);
  EXPECT_EQ(answer->units.misses, 1);
  EXPECT_THAT(answer->ran, testing::UnorderedElementsAre(0, 1, 3)) << "the cell has four";
  EXPECT_EQ(answer->units.stall_us, 70) << "the longest: ranks wait at the same time";
  ASSERT_EQ(answer->ranks.size(), 2u);
  const RankStep &a = answer->ranks[0], &b = answer->ranks[1];
  EXPECT_THAT(a.activities, testing::ElementsAre(ActivitySpan{Activity::kLayers, 10, 700},
                                                 ActivitySpan{Activity::kStall, 20, 70}));
  EXPECT_EQ(a.answered, kNow);
  EXPECT_EQ(std::tuple(b.rank, b.begin_us, b.step_us), std::tuple(1, 5, 400));
}

TEST(StepLedgerTest, RemembersABoundedNumberOfActivities) {
  StepLedger ledger;
  std::vector<int32_t> ranks(kActivitiesKeptMax / kStepActivitiesMax + 1);
  std::iota(ranks.begin(), ranks.end(), 0);
  ledger.Push(Step(1, ranks));
  absl::StatusOr<StepAnswer> answer;
  for (const int32_t rank : ranks) {
    StepResult result = Result(1, {{11, 5, 8, 2, {}}, {13, 9, 7, 1, {}}});
    result.activities.resize(kStepActivitiesMax);
    answer = ledger.Match(rank, std::move(result), kCell, kNow);
    ASSERT_TRUE(answer.ok()) << answer.status();
  }
  ASSERT_EQ(answer->ranks.size(), ranks.size());
  EXPECT_EQ(answer->ranks[0].activities.size(), kStepActivitiesMax);
  EXPECT_THAT(answer->ranks.back().activities, testing::IsEmpty());
}

TEST(StepLedgerTest, TakesOneMoreSampleForEachRightDraftAndNoFurther) {
  const std::vector<Sample> all = {{11, 5, 8, 2, {}}, {11, 6, 9, 2, {}}, {11, 7, 1, 2, {}}};
  for (const auto& [drafts, sent, taken] :
       {std::tuple(0, 3, 1), {1, 1, 1}, {1, 3, 2}, {2, 2, 2}, {2, 3, 3}, {16, 3, 3}, {2, 0, 0}}) {
    StepLedger ledger;
    SentStep step = Step(1, {0});
    step.rows[0].drafts = drafts;
    ledger.Push(std::move(step));
    auto answer = ledger.Match(0, Result(1, {all.begin(), all.begin() + sent}), kCell, kNow);
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(static_cast<int>(answer->samples.size()), taken) << drafts << " drafts, " << sent;
    EXPECT_EQ(answer->unanswered.empty(), taken > 0);
    EXPECT_EQ(answer->num_accepted, std::max(taken - 1, 0));
  }
  StepLedger ledger;
  SentStep step = Step(1, {0});
  step.rows[0].drafts = 2;
  ledger.Push(std::move(step));
  auto gap = ledger.Match(0, Result(1, {all[0], all[2]}), kCell, kNow);
  ASSERT_TRUE(gap.ok());
  EXPECT_EQ(gap->samples.size(), 1u) << "what is out of turn was not asked for";
}

TEST(StepLedgerTest, NamesRowsWithoutAnAnswer) {
  StepLedger ledger;
  ledger.Push(Step(1, {0}));
  auto answer = ledger.Match(0, Result(1, {{11, 6, 8, 2, {}}}), kCell, kNow);  // a wrong position
  ASSERT_TRUE(answer.ok());
  EXPECT_THAT(answer->unanswered, testing::ElementsAre(11));
}

TEST(StepLedgerTest, ARowErrorIsAnAnswer) {
  StepLedger ledger;
  ledger.Push(Step(1, {0}));
  StepResult result = Result(1, {});
  result.row_errors = {{11, "bad"}, {12, "bad too"}, {99, "unknown"}};
  auto answer = ledger.Match(0, std::move(result), kCell, kNow);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->errors.size(), 2u);
  EXPECT_TRUE(answer->unanswered.empty());
}

TEST(StepLedgerTest, AnsweredStepsAreStaleAndGapsAreErrors) {
  StepLedger ledger;
  EXPECT_FALSE(ledger.Match(0, Result(1, {}), kCell, kNow).ok()) << "nothing was sent";
  ledger.Push(Step(1, {0}));
  ledger.Push(Step(2, {0}));
  EXPECT_FALSE(ledger.Match(0, Result(2, {}), kCell, kNow).ok()) << "step 1 is due";
  ASSERT_TRUE(ledger.Match(0, Result(1, {{11, 5, 8, 2, {}}}), kCell, kNow).ok());
  EXPECT_TRUE(ledger.Match(0, Result(1, {{11, 5, 8, 2, {}}}), kCell, kNow)->stale);
  EXPECT_EQ(ledger.size(), 1);
}

TEST(StepLedgerTest, RefusesValuesOutOfRange) {
  const Sample bad[] = {
      {11, 5, 100, 1, {}}, {11, 5, -1, 1, {}}, {11, 5, 8, 4, {}}, {11, 5, 8, -2, {}}};
  for (const Sample& sample : bad) {
    StepLedger ledger;
    ledger.Push(Step(1, {0}));
    EXPECT_TRUE(absl::IsOutOfRange(ledger.Match(0, Result(1, {sample}), kCell, kNow).status()));
  }
}

TEST(StepLedgerTest, AFailedStepIsItsStatus) {
  StepLedger ledger;
  ledger.Push(Step(1, {0}));
  StepResult result = Result(1, {});
  result.status = absl::InternalError("device lost");
  EXPECT_EQ(ledger.Match(0, std::move(result), kCell, kNow).status(),
            absl::InternalError("device lost"));
}

}  // namespace
}  // namespace pregate::scheduler

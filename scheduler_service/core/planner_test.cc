#include "scheduler_service/core/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "common/base/request_limits.h"
#include "scheduler_service/core/batch.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;

// A batch on one rank, planned step after step; samples are answered by hand.
class PlannerTest : public testing::Test {
 protected:
  void Reset(int32_t blocks, int32_t slots) { batch_.Reset({{0, blocks}}, slots); }

  Sequence* Enqueue(int32_t prompt_len, int32_t max_tokens) {
    auto s = std::make_unique<Sequence>();
    s->id = sequences_.size() + 1;
    s->prompt_len = prompt_len;
    s->max_len = prompt_len + max_tokens;
    for (int32_t i = 0; i < prompt_len; ++i) s->Append(10 + i, i % 3);
    batch_.Enqueue(s.get());
    sequences_.push_back(std::move(s));
    return sequences_.back().get();
  }

  Proposal Propose(bool late = false) {
    PlannerView base;
    base.step_id = step_;
    base.step_tokens = step_tokens_;
    base.preemptions_max = preemptions_max_;
    base.late_rows = late;
    return planner_.Propose(batch_.View(base));
  }
  StepPlan Step(bool late = false) {
    const Proposal proposal = Propose(late);
    return batch_.Commit(proposal, 1, step_++).plan;
  }
  void Answer(Sequence* s) {
    --s->samples_in_flight;
    s->Append(7, 1);
  }
  void AnswerAll() {
    for (const auto& s : sequences_) {
      while (s->samples_in_flight > 0) Answer(s.get());
    }
  }

  Batch batch_{/*prefix_cache=*/false};  // prefix_cache_test.cc has it
  FcfsPlanner planner_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  StepId step_ = 1;
  int32_t step_tokens_ = 8;
  int32_t preemptions_max_ = 2;
};

TEST_F(PlannerTest, AddsTheOldestFirstAndChunksPrefillByTheBudget) {
  Reset(100, 4);
  Enqueue(10, 5);
  Enqueue(3, 5);
  const StepPlan first = Step();
  ASSERT_EQ(first.rows.size(), 1u);
  EXPECT_EQ(first.rows[0].count, 8);
  EXPECT_EQ(first.rows[0].emit, Emit::kNone);
  EXPECT_THAT(first.rows[0].routes, ElementsAre(0, 1, 2, 0, 1, 2, 0, 1));
  EXPECT_TRUE(first.add[0].history.empty());
  const StepPlan second = Step();
  ASSERT_EQ(second.rows.size(), 2u);
  EXPECT_EQ(second.rows[0].position, 8);
  EXPECT_EQ(second.rows[0].emit, Emit::kSample);
  EXPECT_EQ(second.rows[1].count, 3);
}

TEST_F(PlannerTest, DecodeTokensComeBeforePrefill) {
  Reset(100, 4);
  Sequence* a = Enqueue(2, 5);
  Step();
  Answer(a);
  Enqueue(20, 5);
  const StepPlan plan = Step();
  ASSERT_EQ(plan.rows.size(), 2u);
  EXPECT_THAT(plan.rows[0].tokens, ElementsAre(7));
  EXPECT_EQ(plan.rows[1].count, 7);
}

TEST_F(PlannerTest, SlotsLimitTheSequences) {
  Reset(100, 1);
  Sequence* a = Enqueue(2, 5);
  Enqueue(2, 5);
  EXPECT_EQ(Step().add.size(), 1u);
  batch_.Remove(a);
  const StepPlan plan = Step();
  EXPECT_THAT(plan.drop, ElementsAre(0));
  ASSERT_EQ(plan.add.size(), 1u);
  EXPECT_EQ(plan.add[0].seq_slot, 0);
}

TEST_F(PlannerTest, ALateRowStandsOnTheStepBeforeOnly) {
  Reset(100, 4);
  Sequence* a = Enqueue(2, 9);
  Step();
  EXPECT_TRUE(Propose(false).rows.empty());
  const StepPlan late = Step(true);
  ASSERT_EQ(late.rows.size(), 1u);
  EXPECT_TRUE(late.rows[0].late && late.rows[0].tokens.empty() && late.rows[0].routes.empty());
  EXPECT_EQ(late.rows[0].position, 2);
  EXPECT_TRUE(Propose(true).rows.empty()) << "two samples are under way";
  Answer(a);
  EXPECT_TRUE(Propose(true).rows[0].late);
  ++step_;  // a step without it came between
  EXPECT_TRUE(Propose(true).rows.empty());
  Answer(a);
  EXPECT_FALSE(Propose(true).rows[0].late);
}

TEST_F(PlannerTest, NoLateRowWhenThePendingSampleIsTheLast) {
  Reset(100, 4);
  Enqueue(2, 2);
  Step();
  EXPECT_TRUE(Propose(true).rows[0].late) << "the second of two samples";
  Step(true);
  Answer(sequences_[0].get());
  EXPECT_TRUE(Propose(true).rows.empty());
}

TEST_F(PlannerTest, AnEmittingRowHasABlockForItsSample) {
  Reset(100, 4);
  Enqueue(kKvBlockTokens, 5);
  step_tokens_ = 64;
  EXPECT_EQ(Step().blocks[0].ids.size(), 2u);
}

TEST_F(PlannerTest, ASequenceWithoutRouteLeavesTheBatch) {
  Reset(100, 4);
  Sequence* a = Enqueue(2, 5);
  Step();
  --a->samples_in_flight;
  a->Append(7, kNoRoute);
  EXPECT_TRUE(Propose().empty());
  a->RecordRoutes(2, {1});
  EXPECT_THAT(Propose().rows, testing::SizeIs(1));
}

TEST_F(PlannerTest, ARoutedPrefixRunsAndOnlyTheLastTokenEmits) {
  Reset(100, 4);
  Sequence* a = Enqueue(10, 5);
  const std::vector<ExpertId> routes = std::exchange(a->routes, std::vector(10, kNoRoute));
  a->routed = 0;
  EXPECT_TRUE(Propose().empty());
  a->RecordRoutes(0, absl::MakeConstSpan(routes).first(3));
  const StepPlan first = Step();
  ASSERT_EQ(first.rows.size(), 1u);
  EXPECT_THAT(first.rows[0].routes, ElementsAre(0, 1, 2));
  EXPECT_EQ(first.rows[0].emit, Emit::kNone);
  EXPECT_TRUE(Propose().empty());
  a->RecordRoutes(3, absl::MakeConstSpan(routes).subspan(3, 1));
  EXPECT_EQ(Step().rows[0].emit, Emit::kNone) << "one token is no decode token while more follow";
  a->RecordRoutes(4, absl::MakeConstSpan(routes).subspan(4));
  const StepPlan last = Step();
  EXPECT_EQ(last.rows[0].count, 6);
  EXPECT_EQ(last.rows[0].emit, Emit::kSample);
}

// The older one grows to three blocks, and there are only three.
TEST_F(PlannerTest, ExhaustionPreemptsTheYoungest) {
  Reset(3, 4);
  step_tokens_ = 64;
  Sequence* a = Enqueue(14, 20);
  Step();
  Answer(a);
  Sequence* b = Enqueue(13, 19);
  Step();  // a has a block of the three left for it
  while (b->state == SequenceState::kRunning) {
    AnswerAll();
    ASSERT_LT(step_, 40u);
    Step();
  }
  EXPECT_EQ(b->state, SequenceState::kPreempted);
  EXPECT_EQ(b->preemptions, 1);
  EXPECT_EQ(b->num_blocks(), 0);
  EXPECT_EQ(a->state, SequenceState::kRunning);
  EXPECT_EQ(a->num_blocks(), 3);
  EXPECT_EQ(batch_.num_blocks_used(), 3);
}

TEST_F(PlannerTest, APreemptedSequenceWaitsForItsSamples) {
  Reset(3, 4);
  step_tokens_ = 64;
  Sequence* a = Enqueue(14, 2);
  Sequence* b = Enqueue(2, 2);
  Step();
  ASSERT_EQ(b->samples_in_flight, 1);
  batch_.Commit({{2}, {}, {}, {}, {}}, 1, step_++);
  EXPECT_TRUE(Propose().add.empty());
  Answer(b);
  EXPECT_THAT(Propose().add, testing::SizeIs(1));
  EXPECT_EQ(Propose().rows[0].count, 3) << "prompt and the sample, from position 0";
  EXPECT_EQ(a->samples_in_flight, 1);
}

TEST_F(PlannerTest, OnePreemptedTooOftenComesBackWhenItCanReachItsEnd) {
  Reset(6, 4);
  step_tokens_ = 64;
  Enqueue(14, 30);  // three blocks at its end
  Step();
  AnswerAll();
  Sequence* b = Enqueue(14, 50);  // four blocks
  EXPECT_THAT(Propose().add, testing::SizeIs(1));
  b->preemptions = preemptions_max_;
  EXPECT_TRUE(Propose().add.empty());
  batch_.Remove(sequences_[0].get());
  EXPECT_THAT(Propose().add, testing::SizeIs(1));
}

TEST_F(PlannerTest, AnOlderOneMayNotComeBetweenAProtectedOneAndItsEnd) {
  Reset(6, 4);
  step_tokens_ = 64;
  Sequence* older = Enqueue(14, 30);    // three blocks at its end
  batch_.Remove(older);                 // as if its routes were still to come
  Sequence* guarded = Enqueue(14, 50);  // four blocks at its end
  guarded->preemptions = preemptions_max_;
  Step();
  ASSERT_EQ(guarded->state, SequenceState::kRunning);
  batch_.Enqueue(older);
  EXPECT_TRUE(Propose().add.empty()) << "five blocks are free, six are needed";
  guarded->preemptions = 0;
  EXPECT_THAT(Propose().add, testing::SizeIs(1));
}

TEST_F(PlannerTest, TheLowestPriorityOfTheYoungerGivesWayFirst) {
  Reset(7, 4);
  step_tokens_ = 64;
  for (const int32_t priority : {0, 1, 0, 1}) Enqueue(2, 90)->priority = priority;
  for (int i = 0; i < 60 && Propose().preempt.empty(); ++i) {
    Step();
    AnswerAll();
  }
  EXPECT_THAT(Propose().preempt, ElementsAre(3));
  sequences_[2]->preemptions = preemptions_max_;
  EXPECT_EQ(Propose().preempt[0], 4u) << "who may not be preempted again comes last";
}

TEST_F(PlannerTest, ScoresAreRowsOfTheirOwnAndWhatIsScoredIsNotScoredAgain) {
  Reset(100, 4);
  Sequence* a = Enqueue(12, 5);
  a->score_end = 11;
  a->prompt_logprobs = 3;
  const StepPlan first = Step();
  ASSERT_EQ(first.rows.size(), 1u);
  EXPECT_EQ(first.rows[0].emit, Emit::kScore);
  EXPECT_EQ(first.rows[0].logprobs_k, 3);
  EXPECT_THAT(first.rows[0].targets, ElementsAre(11, 12, 13, 14, 15, 16, 17, 18));
  a->scored = 8;
  const StepPlan second = Step();
  ASSERT_EQ(second.rows.size(), 2u);
  EXPECT_EQ(second.rows[0].count, 3);
  EXPECT_EQ(second.rows[0].emit, Emit::kScore);
  EXPECT_EQ(second.rows[1].position, 11);
  EXPECT_EQ(second.rows[1].emit, Emit::kSample);
  Answer(a);
  Reset(100, 4);  // only the first answer had come
  step_tokens_ = 64;
  const StepPlan again = Step();
  ASSERT_EQ(again.rows.size(), 3u);
  EXPECT_EQ(again.rows[0].count, 8);
  EXPECT_EQ(again.rows[0].emit, Emit::kNone);
  EXPECT_EQ(again.rows[1].emit, Emit::kScore);
  EXPECT_THAT(again.rows[2].tokens, ElementsAre(21, 7));
  EXPECT_EQ(again.rows[2].emit, Emit::kSample);
}

TEST_F(PlannerTest, AStepScoresSoManyTokensAndNoMore) {
  Reset(200, 4);
  step_tokens_ = 2000;
  for (const int32_t prompt_len : {400, 300}) Enqueue(prompt_len, 5)->score_end = prompt_len - 1;
  Enqueue(5, 5);
  const StepPlan plan = Step();
  ASSERT_EQ(plan.rows.size(), 4u);
  EXPECT_EQ(plan.rows[0].count, 399);
  EXPECT_EQ(plan.rows[2].count, kScoredTokensMax - 399);
  EXPECT_EQ(plan.rows[2].emit, Emit::kScore);
  EXPECT_EQ(plan.rows[3].count, 5) << "others go on";
}

TEST_F(PlannerTest, AMaskedSequenceIsNeverLateAndItsRowCarriesTheMask) {
  Reset(100, 4);
  Sequence* a = Enqueue(2, 9);
  a->masked = true;
  a->allowed = {5, 6};
  EXPECT_THAT(Step().rows[0].allowed, ElementsAre(5, 6));
  EXPECT_TRUE(Propose(true).rows.empty());
  Answer(a);
  EXPECT_THAT(Step().rows[0].allowed, ElementsAre(5, 6));
}

TEST_F(PlannerTest, AnAddSaysWhatTokensAreDrawnBy) {
  Reset(100, 4);
  Sequence* a = Enqueue(3, 9);
  a->sampling.presence_penalty = 1;
  a->logit_bias = {{4, -1}};
  a->end_tokens = {2, 8};
  a->logprobs = 0;
  const StepPlan plan = Step();
  EXPECT_EQ(plan.add[0].generated_from, 3);
  EXPECT_EQ(plan.add[0].sampling.presence_penalty, 1);
  EXPECT_THAT(plan.add[0].logit_bias, ElementsAre(LogitBias{4, -1}));
  EXPECT_TRUE(plan.add[0].banned.empty()) << "it may end at once";
  EXPECT_EQ(plan.rows[0].logprobs_k, 1) << "its own comes beside one other at least";
  Sequence* b = Enqueue(3, 9);
  b->min_tokens = 4;
  b->end_tokens = {2, 8};
  const StepPlan next = Step();
  EXPECT_EQ(next.add[0].banned_until, 7);
  EXPECT_THAT(next.add[0].banned, ElementsAre(2, 8));
  EXPECT_EQ(next.rows[0].logprobs_k, 0);
}

TEST_F(PlannerTest, ANewEpochPlansEverythingAnew) {
  Reset(10, 4);
  Sequence* a = Enqueue(3, 9);
  Step();
  Answer(a);
  Step();
  Reset(10, 4);
  EXPECT_EQ(a->state, SequenceState::kPreempted);
  EXPECT_EQ(a->preemptions, 0);
  step_ = 1;
  const StepPlan plan = Step();
  EXPECT_TRUE(plan.drop.empty());
  ASSERT_EQ(plan.add.size(), 1u);
  EXPECT_EQ(plan.rows[0].position, 0);
  EXPECT_THAT(plan.rows[0].tokens, ElementsAre(10, 11, 12, 7));
}

TEST_F(PlannerTest, SpreadsOverTheHomeRanks) {
  batch_.Reset({{0, 10}, {3, 10}}, 4);
  step_tokens_ = 64;
  Enqueue(20, 5);
  Enqueue(20, 5);
  const StepPlan plan = Step();
  ASSERT_EQ(plan.add.size(), 2u);
  EXPECT_NE(plan.add[0].home_rank, plan.add[1].home_rank);
}

}  // namespace
}  // namespace pregate::scheduler

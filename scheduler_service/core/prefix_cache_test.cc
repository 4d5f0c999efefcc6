// What a planner and the batch make of prefixes that are there already, rule by rule; the property
// tests have the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "scheduler_service/core/batch.h"
#include "scheduler_service/core/home_rank.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class PrefixCacheTest : public testing::Test {
 protected:
  void Reset(int32_t blocks, int32_t num_ranks = 1) {
    std::vector<RankBlocks> ranks;
    for (int32_t rank = 0; rank < num_ranks; ++rank) ranks.push_back({rank, blocks});
    batch_.Reset(ranks, 8);
  }
  // Its first tokens are those of every other; `own` ones at its end are not.
  Sequence* Make(int32_t prompt_len, int32_t own = 0) {
    auto s = std::make_unique<Sequence>();
    s->id = sequences_.size() + 1;
    s->prompt_len = prompt_len;
    s->max_len = prompt_len + 20;
    for (int32_t i = 0; i < prompt_len; ++i) {
      s->Append(i < prompt_len - own ? i : static_cast<TokenId>(1000 * s->id + i), 0);
    }
    sequences_.push_back(std::move(s));
    return sequences_.back().get();
  }
  Sequence* Enqueue(int32_t prompt_len, int32_t own = 0) {
    Sequence* s = Make(prompt_len, own);
    batch_.Enqueue(s);
    return s;
  }
  Proposal Propose() {
    PlannerView base;
    base.step_id = step_;
    base.step_tokens = step_tokens_;
    base.preemptions_max = 4;
    return planner_.Propose(batch_.View(base));
  }
  // The answer to every row, too.
  StepPlan Step() {
    const CommittedStep step = batch_.Commit(Propose(), 1, step_++);
    for (const SentRow& row : step.rows) {
      Sequence* s = sequences_[row.seq_id - 1].get();
      if (row.sample_position < 0) {
        batch_.OnComputed(s, row.end);
      } else {
        batch_.OnSamples(s, 1);
        s->Append(7, 0);
      }
    }
    return step.plan;
  }

  Batch batch_;
  FcfsPlanner planner_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  StepId step_ = 1;
  int32_t step_tokens_ = 100;
};

TEST_F(PrefixCacheTest, ASequenceBeginsBehindWhatIsThere) {
  Reset(20);
  Enqueue(50);
  Step();
  Sequence* second = Enqueue(50, 10);
  const StepPlan plan = Step();
  ASSERT_THAT(plan.add, SizeIs(1));
  EXPECT_THAT(plan.add[0].history, SizeIs(32));
  EXPECT_EQ(second->reused, 32);
  ASSERT_THAT(plan.blocks, SizeIs(2));
  EXPECT_EQ(plan.blocks[0].ids, (std::vector<BlockId>{0, 1}));
  EXPECT_EQ(plan.blocks[1].first_index, 2);
  EXPECT_EQ(plan.rows[1].position, 32);
  EXPECT_EQ(plan.rows[1].count, 18);
}

TEST_F(PrefixCacheTest, OneTokenIsLeftToCompute) {
  Reset(20);
  Enqueue(32);
  Step();
  Enqueue(32);
  EXPECT_THAT(Step().add[0].history, SizeIs(16));
}

TEST_F(PrefixCacheTest, WhatIsToBeScoredIsComputed) {
  Reset(20);
  Enqueue(50);
  Step();
  Sequence* scored = Make(50);
  scored->score_end = 49;
  batch_.Enqueue(scored);
  EXPECT_THAT(Propose().add, SizeIs(1));
  EXPECT_EQ(Propose().add[0].found_blocks, 0);
  scored->scored = 35;  // as if it had been preempted behind that
  EXPECT_EQ(Propose().add[0].found_blocks, 2);
}

TEST_F(PrefixCacheTest, WhatOneIsComputingAnotherWaitsForAndOthersPass) {
  Reset(40);
  step_tokens_ = 40;
  Enqueue(100);
  Step();
  Sequence* alike = Enqueue(100, 4);
  Sequence* other = Enqueue(10, 10);
  Step();
  Step();  // the last of the first one's prompt leaves budget
  EXPECT_EQ(alike->state, SequenceState::kQueued);
  EXPECT_EQ(other->state, SequenceState::kRunning);
  const StepPlan plan = Step();
  ASSERT_THAT(plan.add, SizeIs(1));
  EXPECT_THAT(plan.add[0].history, SizeIs(96));
}

TEST_F(PrefixCacheTest, BlocksInUseCostNothing) {
  Reset(8);
  Enqueue(80);  // six blocks
  Step();
  Sequence* needs_three = Enqueue(66, 20);  // beside two of the first one's
  EXPECT_THAT(Step().add, IsEmpty());
  batch_.Remove(needs_three);
  Enqueue(66, 2);  // one beside four, and one is left to the first
  EXPECT_THAT(Step().add, SizeIs(1));
  EXPECT_EQ(batch_.num_blocks_used(), 7);
}

TEST_F(PrefixCacheTest, APreemptedSequenceFindsItsOwnBlocks) {
  Reset(10);
  Enqueue(62);
  Sequence* young = Enqueue(78, 78);
  Step();  // both, all ten blocks but one
  while (young->state == SequenceState::kRunning) Step();
  EXPECT_EQ(young->preemptions, 1);
  batch_.Remove(sequences_[0].get());
  const StepPlan plan = Step();
  ASSERT_THAT(plan.add, SizeIs(1));
  EXPECT_GE(plan.add[0].history.size(), 64u);
}

TEST_F(PrefixCacheTest, KnownRoutesThatAreAllFoundWaitForMore) {
  Reset(20);
  Enqueue(60);
  Step();
  Sequence* s = Make(60);
  s->routed = 40;  // as if the rest were at the router
  for (int32_t i = 40; i < 60; ++i) s->routes[i] = kNoRoute;
  batch_.Enqueue(s);
  EXPECT_THAT(Step().add, IsEmpty());
  s->RecordRoutes(40, std::vector<ExpertId>(20, 0));
  EXPECT_THAT(Step().add[0].history, SizeIs(48));
}

TEST_F(PrefixCacheTest, ThePrefixOutlivesTheEpochButNotItsMemory) {
  Reset(20);
  Enqueue(50);
  Step();
  batch_.Reset({}, 0);
  Reset(20);
  EXPECT_THAT(Step().add[0].history, SizeIs(48)) << "its own, in the new epoch";
  batch_.Reset({}, 0);
  batch_.Forget(0);
  Reset(20);
  EXPECT_THAT(Step().add[0].history, IsEmpty());
}

TEST_F(PrefixCacheTest, TheHomeIsTheRankThatHasMostLoadPermitting) {
  Reset(40, 2);
  Enqueue(60);  // at rank 0, the first of equals
  Step();
  batch_.Remove(sequences_[0].get());
  Enqueue(200, 200);  // to rank 1, which is then less roomy
  sequences_[1]->home_rank = -1;
  Step();
  Sequence* s = Make(60, 4);
  s->ExtendKeys();
  s->found = 48;
  std::vector<RankBlocks> free;
  for (const RankBlocks& r : batch_.View({}).free_blocks) free.push_back(r);
  ASSERT_THAT(free, SizeIs(2));
  const RankBlocks* home = HomeOfPrefix(*s, absl::MakeSpan(free));
  ASSERT_NE(home, nullptr);
  const int32_t with_prefix = home->rank;
  free[with_prefix].num_blocks = 3;
  free[1 - with_prefix].num_blocks = 30;
  EXPECT_EQ(HomeOfPrefix(*s, absl::MakeSpan(free)), nullptr);
}

}  // namespace
}  // namespace pregate::scheduler

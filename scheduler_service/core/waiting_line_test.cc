#include "scheduler_service/core/waiting_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>

#include "scheduler_service/core/random_source.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;

class WaitingLineTest : public testing::Test {
 protected:
  Sequence* Add(int32_t priority, int64_t turn = 0) {
    Sequence& s = sequences_.emplace_back();
    s.id = sequences_.size();
    s.priority = priority;
    s.turn = turn;
    line_.Insert(&s);
    return &s;
  }
  std::vector<SeqId> First(int32_t count) const {
    std::vector<SeqId> ids;
    for (const Sequence* s : line_.First(count)) ids.push_back(s->id);
    return ids;
  }
  bool Waits(SeqId id) const {
    const std::vector<SeqId> ids = First(1000);
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  }

  std::deque<Sequence> sequences_;
  WaitingLine line_;
};

TEST_F(WaitingLineTest, HigherPrioritiesComeFirstThenEarlierTurnsThenOlderOnes) {
  Add(0, 5);
  Add(0, 4);
  Add(2, 9);
  Add(-1, 0);
  Add(0, 4);
  EXPECT_THAT(First(10), ElementsAre(3, 2, 5, 1, 4));
  EXPECT_THAT(First(2), ElementsAre(3, 2));
  EXPECT_THAT(First(0), ElementsAre());
}

TEST_F(WaitingLineTest, WhoIsErasedOrHasEnteredIsGone) {
  Sequence* const a = Add(0);
  Add(0);
  EXPECT_EQ(line_.Enter(1), a);
  EXPECT_EQ(line_.Enter(1), nullptr);
  line_.Erase(a);
  EXPECT_THAT(First(10), ElementsAre(2));
  line_.Erase(&sequences_[1]);
  EXPECT_EQ(line_.size(), 0u);
}

// What First says is what comes when all enter as it says.
TEST_F(WaitingLineTest, ALowerOneIsPassedByNoMoreThanTheBound) {
  const uint64_t seed = testing::UnitTest::GetInstance()->random_seed();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  SplitMix64 random(seed);
  for (int i = 0; i < 60; ++i) Add(static_cast<int32_t>(random.Next() % 3), random.Next() % 9);
  const std::vector<SeqId> whole = First(1000);
  std::map<int32_t, int> passed;  // by priority
  for (size_t i = 0; line_.size() > 0; ++i) {
    const std::vector<SeqId> next = First(1);
    ASSERT_THAT(next, ElementsAre(whole[i]));
    const int32_t priority = line_.Enter(next[0])->priority;
    passed[priority] = 0;
    for (int32_t lower = 0; lower < priority; ++lower) {
      const bool waits = std::any_of(sequences_.begin(), sequences_.end(), [&](const Sequence& s) {
        return s.priority == lower && Waits(s.id);
      });
      if (waits) ++passed[lower];
      EXPECT_LE(passed[lower], WaitingLine::kPassedMax);
    }
  }
}

// Without end new ones of higher priority come.
TEST_F(WaitingLineTest, NobodyStarves) {
  Sequence* const low = Add(-10);
  for (int entered = 0; entered < 100; ++entered) {
    Add(10);
    if (line_.First(1)[0] != low) {
      line_.Enter(line_.First(1)[0]->id);
      continue;
    }
    EXPECT_EQ(entered, WaitingLine::kPassedMax);
    return;
  }
  FAIL();
}

}  // namespace
}  // namespace pregate::scheduler

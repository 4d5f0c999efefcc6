#include "scheduler_service/sim/expert_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::sim {
namespace {

constexpr absl::Duration kLoad = absl::Milliseconds(10);

// Two layers, four experts.
class ExpertCacheTest : public testing::Test {
 protected:
  explicit ExpertCacheTest(int32_t slots = 4) : cache_({2, 4, slots, kLoad}) {}
  absl::Time Ms(int ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }
  bool Has(UnitId unit) {
    const auto units = cache_.Resident();
    return std::find(units.begin(), units.end(), unit) != units.end();
  }
  ExpertCache cache_;
};

TEST_F(ExpertCacheTest, AMissWaitsForItsLoad) {
  EXPECT_EQ(cache_.RunLayer(0, {1}, Ms(0)), Ms(10));
  EXPECT_EQ(cache_.RunLayer(0, {1}, Ms(20)), Ms(20));
  EXPECT_EQ(cache_.counts().misses, 1);
  EXPECT_EQ(cache_.counts().hits, 1);
  EXPECT_EQ(cache_.counts().stall, kLoad);
}

TEST_F(ExpertCacheTest, LoadsAreOneAfterTheOther) {
  EXPECT_EQ(cache_.RunLayer(0, {1, 2}, Ms(0)), Ms(20));
}

TEST_F(ExpertCacheTest, LoadsAheadHideBehindTheStep) {
  cache_.SetWanted({{0, 1}, {1, 1}}, 2, Ms(0));
  EXPECT_EQ(cache_.RunLayer(0, {1}, Ms(4)), Ms(10));
  EXPECT_EQ(cache_.RunLayer(1, {1}, Ms(25)), Ms(25));
  EXPECT_EQ(cache_.counts().late, 1);
  EXPECT_EQ(cache_.counts().hits, 1);
  EXPECT_EQ(cache_.counts().loads, 2);
}

TEST_F(ExpertCacheTest, OnlyTheFirstNAreLoadedAhead) {
  cache_.SetWanted({{0, 1}, {0, 2}}, 1, Ms(0));
  cache_.AdvanceTo(Ms(100));
  EXPECT_TRUE(Has({0, 1}));
  EXPECT_FALSE(Has({0, 2}));
}

TEST_F(ExpertCacheTest, TheUnlistedLeaveFirstThenTheTail) {
  cache_.SetWanted({{0, 0}, {0, 1}, {0, 2}, {0, 3}}, 4, Ms(0));
  cache_.AdvanceTo(Ms(100));
  cache_.SetWanted({{0, 2}, {0, 1}, {0, 0}}, 0, Ms(100));
  cache_.RunLayer(1, {0}, Ms(100));
  EXPECT_FALSE(Has({0, 3})) << "is not listed";
  cache_.RunLayer(1, {1}, Ms(200));
  EXPECT_FALSE(Has({1, 0})) << "is not listed, and no longer in use";
  cache_.RunLayer(1, {1, 2}, Ms(300));
  EXPECT_FALSE(Has({0, 0})) << "is last in the list; the unlisted one is in use";
}

TEST_F(ExpertCacheTest, ALoadAheadTakesNothingThatIsWantedSooner) {
  cache_.SetWanted({{0, 0}, {0, 1}, {0, 2}, {0, 3}, {1, 0}}, 5, Ms(0));
  cache_.AdvanceTo(Ms(1000));
  EXPECT_FALSE(Has({1, 0}));
  EXPECT_EQ(cache_.counts().loads, 4);
}

TEST_F(ExpertCacheTest, EventsTellEveryChangeInOrder) {
  cache_.RunLayer(0, {0}, Ms(0));
  const auto events = cache_.TakeEvents();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].number, 1u);
  EXPECT_EQ(events[0].state, UnitState::kLoading);
  EXPECT_EQ(events[1].number, 2u);
  EXPECT_EQ(events[1].state, UnitState::kResident);
  EXPECT_THAT(cache_.TakeEvents(), testing::IsEmpty());
}

class OneSlotTest : public ExpertCacheTest {
 protected:
  OneSlotTest() : ExpertCacheTest(1) {}
};

TEST_F(OneSlotTest, IsEnoughForAnyStep) {
  EXPECT_EQ(cache_.RunLayer(0, {0, 1, 2, 3}, Ms(0)), Ms(40));
  EXPECT_EQ(cache_.RunLayer(1, {0, 3}, Ms(40)), Ms(60));
  EXPECT_EQ(cache_.counts().misses, 6);
}

class AllFitTest : public ExpertCacheTest {
 protected:
  AllFitTest() : ExpertCacheTest(8) {}
};

TEST_F(AllFitTest, NothingIsEverLoaded) {
  EXPECT_EQ(cache_.RunLayer(1, {0, 1, 2, 3}, Ms(7)), Ms(7));
  EXPECT_EQ(cache_.counts().hits, 4);
  EXPECT_EQ(cache_.counts().loads, 0);
}

}  // namespace
}  // namespace pregate::sim

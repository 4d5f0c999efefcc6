// The link and the clock; which unit gives way is residency_test's.
#include "sim/expert_cache.h"

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
  // Layers begin at `first` and `second`, or when the one before is done.
  absl::Time RunStep(std::vector<ExpertId> experts, absl::Time first, absl::Time second) {
    cache_.BeginStep(experts, first);
    const absl::Time end = cache_.RunLayer(1, std::max(cache_.RunLayer(0, first), second));
    cache_.EndStep(end);
    return end;
  }
  bool Has(UnitId unit) {
    const auto units = cache_.Resident();
    return std::find(units.begin(), units.end(), unit) != units.end();
  }
  ExpertCache cache_;
};

TEST_F(ExpertCacheTest, AMissWaitsForItsLoadAndTheNextLayersLoadGoesOnBeneath) {
  EXPECT_EQ(RunStep({1}, Ms(0), Ms(15)), Ms(20)) << "layer 1's unit was loading since 10 ms";
  EXPECT_EQ(cache_.counts().stall, absl::Milliseconds(15));
  EXPECT_EQ(RunStep({1}, Ms(30), Ms(35)), Ms(35));
  EXPECT_EQ(cache_.counts().misses, 2);
  EXPECT_EQ(cache_.counts().hits, 2);
  EXPECT_EQ(cache_.counts().references, 4);
}

TEST_F(ExpertCacheTest, LoadsAreOneAfterTheOther) {
  EXPECT_EQ(RunStep({1, 2}, Ms(0), Ms(0)), Ms(40));
}

TEST_F(ExpertCacheTest, LoadsAheadHideBehindWhatRuns) {
  cache_.SetWanted({{0, 1}, {1, 1}}, 2);
  cache_.AdvanceTo(Ms(0));
  EXPECT_EQ(RunStep({1}, Ms(4), Ms(25)), Ms(25));
  EXPECT_EQ(cache_.counts().late, 2);
  EXPECT_EQ(cache_.counts().loads, 2);
  EXPECT_EQ(cache_.counts().stall, absl::Milliseconds(6));
}

TEST_F(ExpertCacheTest, OnlyTheFirstNAreLoadedAhead) {
  cache_.SetWanted({{0, 1}, {0, 2}}, 1);
  cache_.AdvanceTo(Ms(0));
  cache_.AdvanceTo(Ms(100));
  EXPECT_TRUE(Has({0, 1}));
  EXPECT_FALSE(Has({0, 2}));
}

TEST_F(ExpertCacheTest, EventsTellEveryChangeInOrder) {
  RunStep({0}, Ms(0), Ms(0));
  uint64_t number = 0;
  for (const UnitEvent& event : cache_.TakeEvents()) EXPECT_EQ(event.number, ++number);
  EXPECT_EQ(number, 4u);
  EXPECT_THAT(cache_.TakeEvents(), testing::IsEmpty());
}

class OneSlotTest : public ExpertCacheTest {
 protected:
  OneSlotTest() : ExpertCacheTest(1) {}
};

TEST_F(OneSlotTest, IsEnoughForAnyStep) {
  EXPECT_EQ(RunStep({0, 1, 2, 3}, Ms(0), Ms(0)), Ms(80));
  EXPECT_EQ(cache_.counts().misses, 8);
}

class AllFitTest : public ExpertCacheTest {
 protected:
  AllFitTest() : ExpertCacheTest(8) {}
};

TEST_F(AllFitTest, NothingIsEverLoaded) {
  EXPECT_EQ(RunStep({0, 1, 2, 3}, Ms(7), Ms(7)), Ms(7));
  EXPECT_EQ(cache_.counts().hits, 8);
  EXPECT_EQ(cache_.counts().loads, 0);
}

}  // namespace
}  // namespace pregate::sim

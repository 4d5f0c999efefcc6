#include "scheduler_service/core/sequence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate::scheduler {
namespace {

TEST(SequenceTest, TheFirstRouteOfAPositionIsFinal) {
  Sequence s;
  for (TokenId t : {5, 6, 7}) s.Append(t, kNoRoute);
  s.RecordRoutes(1, {2});
  EXPECT_EQ(s.routed, 0);
  s.RecordRoutes(0, {1, 9, 3, 4});  // position 1 stands, position 3 does not exist
  EXPECT_THAT(s.routes, testing::ElementsAre(1, 2, 3));
  EXPECT_TRUE(s.all_routed());
  EXPECT_THAT(s.expert_tokens, testing::ElementsAre(0, 1, 1, 1));
  s.Append(8, kNoRoute);
  EXPECT_FALSE(s.all_routed());
  s.RecordRoutes(3, {0});
  EXPECT_TRUE(s.all_routed());
}

TEST(SequenceTest, ADenseModelNeedsNoRoutes) {
  Sequence s;
  s.dense = true;
  s.Append(5, kNoRoute);
  EXPECT_TRUE(s.all_routed());
}

TEST(SequenceTest, BlocksCoverTheLastPosition) {
  EXPECT_EQ(BlocksThrough(0), 1);
  EXPECT_EQ(BlocksThrough(kKvBlockTokens - 1), 1);
  EXPECT_EQ(BlocksThrough(kKvBlockTokens), 2);
  Sequence s;
  s.max_len = 2 * kKvBlockTokens;
  EXPECT_EQ(BlocksAtEnd(s), 2);
}

}  // namespace
}  // namespace pregate::scheduler

#include "expert_service/core/draft_cut.h"

#include "gmock/gmock.h"

namespace pregate {
namespace {

using testing::ElementsAre;

TEST(DraftsAtHandTest, RunWhereTheirExpertIsNeededOrResident) {
  const ExpertsAtHand experts{
      .needed = {true, false, false}, .resident = {false, true, false}, .room = 2};
  EXPECT_THAT(DraftsAtHand({{0, 1, 0, 1}}, experts), ElementsAre(4));
  EXPECT_THAT(DraftsAtHand({{2, 0}}, experts), ElementsAre(0));
  EXPECT_THAT(DraftsAtHand({{0, 2, 0}, {1}}, experts), ElementsAre(1, 1));
}

TEST(DraftsAtHandTest, WhatIsResidentGivesWayToWhatIsNeeded) {
  const ExpertsAtHand full{
      .needed = {true, true, false}, .resident = {true, false, true}, .room = 2};
  EXPECT_THAT(DraftsAtHand({{0, 1, 2}}, full), ElementsAre(2));
  // One expert too many for the step alone: none of another.
  const ExpertsAtHand over{
      .needed = {true, true, false}, .resident = {false, false, true}, .room = 1};
  EXPECT_THAT(DraftsAtHand({{2}, {1}}, over), ElementsAre(0, 1));
}

TEST(DraftsAtHandTest, TheFirstRowsTakeTheRoom) {
  const ExpertsAtHand experts{
      .needed = {true, false, false, false}, .resident = {true, true, true, true}, .room = 3};
  EXPECT_THAT(DraftsAtHand({{1}, {2, 1}, {3}}, experts), ElementsAre(1, 2, 0));
  EXPECT_THAT(DraftsAtHand({}, experts), ElementsAre());
}

}  // namespace
}  // namespace pregate

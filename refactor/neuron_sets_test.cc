#include "refactor/neuron_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <random>
#include <set>

namespace pregate {
namespace {

using ::testing::ElementsAre;

TEST(KeptWidthTest, RoundsToTheNearestNeuron) {
  EXPECT_EQ(*KeptWidth(0.75, 1536), 1152);
  EXPECT_EQ(*KeptWidth(0.5, 5), 3);
  EXPECT_EQ(*KeptWidth(1, 7), 7);
}

TEST(KeptWidthTest, RefusesWhatKeepsNothingOrTooMuch) {
  for (double keep : {0.0, -0.1, 1.01, std::nan("")}) EXPECT_FALSE(KeptWidth(keep, 100).ok());
  EXPECT_THAT(KeptWidth(0.001, 100).status().message(), ::testing::HasSubstr("0.001"));
}

TEST(SelectNeuronsTest, SharedIsWhatAllKeepAndOwnIsTheRest) {
  const std::vector<double> scores = {5, 4, 3, 2, 1,   // expert 0 keeps 0 1 2
                                      1, 9, 2, 8, 7};  // expert 1 keeps 1 3 4
  const LayerNeurons sets = SelectNeurons(scores, 5, 3);
  EXPECT_THAT(sets.shared, ElementsAre(1));
  EXPECT_THAT(sets.own, ElementsAre(ElementsAre(0, 2), ElementsAre(3, 4)));
}

TEST(SelectNeuronsTest, TiesGoToTheLowerIndex) {
  const std::vector<double> scores = {1, 1, 1, 1, 0, 1, 1, 1};
  const LayerNeurons sets = SelectNeurons(scores, 4, 2);
  EXPECT_THAT(sets.shared, ElementsAre(1));
  EXPECT_THAT(sets.own, ElementsAre(ElementsAre(0), ElementsAre(2)));
}

TEST(SelectNeuronsTest, EveryExpertKeepsTheSameNumberOfItsBest) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 rng(seed);
  for (int round = 0; round < 50; ++round) {
    const int experts = 1 + rng() % 7, width = 1 + rng() % 60, kept = 1 + rng() % width;
    std::vector<double> scores(static_cast<size_t>(experts) * width);
    for (double& s : scores) s = static_cast<double>(rng());
    const LayerNeurons sets = SelectNeurons(scores, width, kept);
    for (int e = 0; e < experts; ++e) {
      std::set<int32_t> mine(sets.shared.begin(), sets.shared.end());
      mine.insert(sets.own[e].begin(), sets.own[e].end());
      ASSERT_EQ(mine.size(), static_cast<size_t>(kept));  // disjoint, and the right number
      ASSERT_EQ(sets.own[e].size(), kept - sets.shared.size());
      double lowest_kept = 1e18, highest_dropped = -1;
      for (int n = 0; n < width; ++n) {
        const double s = scores[static_cast<size_t>(e) * width + n];
        if (mine.count(n))
          lowest_kept = std::min(lowest_kept, s);
        else
          highest_dropped = std::max(highest_dropped, s);
      }
      EXPECT_GE(lowest_kept, highest_dropped);
    }
  }
}

}  // namespace
}  // namespace pregate

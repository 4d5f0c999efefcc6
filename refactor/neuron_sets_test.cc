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

TEST(KeptWidthTest, IsNoMoreThanTheShareAndWholeSteps) {
  EXPECT_EQ(*KeptWidth(0.75, 1536), 1152);
  EXPECT_EQ(*KeptWidth(0.6, 1536), 912);  // 921.6 of 16
  EXPECT_EQ(*KeptWidth(0.5, 5), 2);
  EXPECT_EQ(*KeptWidth(0.6, 10), 6);
  EXPECT_EQ(*KeptWidth(1, 7), 7);
  EXPECT_EQ(*KeptWidth(1, 11008), 11008);
}

TEST(KeptWidthTest, RefusesWhatKeepsNothingOrTooMuch) {
  for (double keep : {0.0, -0.1, 1.01, std::nan("")}) EXPECT_FALSE(KeptWidth(keep, 100).ok());
  EXPECT_THAT(KeptWidth(0.001, 100).status().message(), ::testing::HasSubstr("0.001"));
}

TEST(SelectNeuronsTest, SharedIsWhatAllKeepAndOwnIsTheRest) {
  const std::vector<double> scores = {5, 4, 3, 2, 1,   // expert 0 keeps 0 1 2
                                      1, 9, 2, 8, 7};  // expert 1 keeps 1 3 4
  const LayerNeurons sets = SelectNeurons(scores, 5, 3, 1);
  EXPECT_THAT(sets.shared, ElementsAre(1));
  EXPECT_THAT(sets.own, ElementsAre(ElementsAre(0, 2), ElementsAre(3, 4)));
}

TEST(SelectNeuronsTest, TiesGoToTheLowerIndex) {
  const std::vector<double> scores = {1, 1, 1, 1, 0, 1, 1, 1};
  const LayerNeurons sets = SelectNeurons(scores, 4, 2, 1);
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
    const int step = 1 + rng() % 4;
    const LayerNeurons sets = SelectNeurons(scores, width, kept, step);
    size_t by_all = 0;
    for (int n = 0; n < width; ++n) {
      bool all = true;
      for (int e = 0; e < experts; ++e) {
        int above = 0;
        for (int m = 0; m < width; ++m) above += scores[e * width + m] > scores[e * width + n];
        all &= above < kept;
      }
      by_all += all;
    }
    const size_t most = experts > 1 ? kept - 1 : kept;  // of several, each has some of its own
    ASSERT_EQ(sets.shared.size(), std::min(by_all, most) / step * step);
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

TEST(SelectNeuronsTest, WhatIsBeyondAStepIsTheNeuronThatSomeExpertRanksLowest) {
  const std::vector<double> scores = {7, 9, 8, 1, 0,   // all keep 0 1 2, and 0 comes last
                                      8, 9, 7, 1, 0};  // here 2: of ties the lower index stays
  const LayerNeurons sets = SelectNeurons(scores, 5, 3, 2);
  EXPECT_THAT(sets.shared, ElementsAre(0, 1));
  EXPECT_THAT(sets.own, ElementsAre(ElementsAre(2), ElementsAre(2)));
}

TEST(ShareWidthsTest, LosesTheLeastThatAnySharingLoses) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 rng(seed);
  for (int round = 0; round < 40; ++round) {
    constexpr int kWidth = 8, kLayers = 3, kStep = 2;
    const int experts = 1 + rng() % 3, least = kStep * (rng() % 2);
    const int64_t total = kLayers * least + rng() % (kLayers * (kWidth - least) + 1);
    std::vector<std::vector<double>> losses(kLayers, std::vector<double>(experts * kWidth));
    for (auto& layer : losses) {
      for (double& x : layer)
        x = static_cast<double>(rng() % 1000) * static_cast<double>(rng() % 5);
    }
    const auto lost = [&](const std::vector<int>& widths) {
      double sum = 0;
      for (int l = 0; l < kLayers; ++l) {
        for (int e = 0; e < experts; ++e) {
          std::vector<double> mine(losses[l].begin() + e * kWidth,
                                   losses[l].begin() + (e + 1) * kWidth);
          std::sort(mine.begin(), mine.end());
          for (int i = 0; i < kWidth - widths[l]; ++i) sum += mine[i];
        }
      }
      return sum;
    };
    double best = 1e18;
    for (int a = least; a <= kWidth; a += kStep) {
      for (int b = least; b <= kWidth; b += kStep) {
        for (int c = least; c <= kWidth; c += kStep) {
          if (a + b + c <= total) best = std::min(best, lost({a, b, c}));
        }
      }
    }
    const std::vector<int> widths = ShareWidths(losses, kWidth, total, least, kStep);
    int64_t sum = 0;
    for (const int width : widths) {
      EXPECT_TRUE(width >= least && width <= kWidth && width % kStep == 0) << width;
      sum += width;
    }
    EXPECT_LE(sum, total);
    EXPECT_NEAR(lost(widths), best, 1e-6 * best);
  }
}

}  // namespace
}  // namespace pregate

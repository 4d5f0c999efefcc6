#include "expert_service/core/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace pregate {
namespace {

TEST(TopLogprobsTest, TheTokenComesFirstThenTheMostLikely) {
  const std::vector<float> logits = {std::log(1.f), std::log(4.f), std::log(2.f), std::log(1.f)};
  const auto top = TopLogprobs(logits, 3, std::log(1.0f / 8), 2);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].token, 3);
  EXPECT_EQ(top[0].logprob, std::log(1.0f / 8));
  EXPECT_EQ(top[1].token, 1);
  EXPECT_NEAR(top[1].logprob, std::log(4.0 / 8), 1e-6);
  EXPECT_EQ(top[2].token, 2);
}

TEST(TopLogprobsTest, TheTokenAmongTheMostLikelyHasOneLogprob) {
  const auto top = TopLogprobs({-3, 1.7f, 0}, 1, -0.1f, 1);
  EXPECT_EQ(top[1].token, 1);
  EXPECT_EQ(top[1].logprob, -0.1f);
}

TEST(TopLogprobsTest, MoreThanTheVocabularyIsTheVocabulary) {
  EXPECT_EQ(TopLogprobs({1, 2}, 0, 0, 20).size(), 3u);
  EXPECT_EQ(TopLogprobs({1, 2}, 0, 0, 0).size(), 1u);
}

TEST(TopLogprobsTest, TheOrderIsThatOfASort) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> logits(1 + random() % 100);
    for (float& x : logits) x = static_cast<float>(random() % 20);  // many ties: lowest id first
    std::vector<TokenId> ids(logits.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(),
                     [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
    const auto top = TopLogprobs(logits, 0, 0, 1 + static_cast<int32_t>(random() % 20));
    for (size_t i = 1; i < top.size(); ++i) ASSERT_EQ(top[i].token, ids[i - 1]);
  }
}

}  // namespace
}  // namespace pregate

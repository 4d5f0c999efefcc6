#include "expert_service/core/logprobs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace pregate {
namespace {

TEST(TopLogprobsTest, TheTokenComesFirstThenTheMostLikely) {
  const std::vector<float> logits = {std::log(1.f), std::log(4.f), std::log(2.f), std::log(1.f)};
  const auto top = TopLogprobs(logits, 3, 2);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].token, 3);
  EXPECT_NEAR(top[0].logprob, std::log(1.0 / 8), 1e-6);
  EXPECT_EQ(top[1].token, 1);
  EXPECT_NEAR(top[1].logprob, std::log(4.0 / 8), 1e-6);
  EXPECT_EQ(top[2].token, 2);
}

TEST(TopLogprobsTest, TiesGoToTheLowestId) {
  const auto top = TopLogprobs({1, 1, 1}, 2, 2);
  EXPECT_EQ(top[1].token, 0);
  EXPECT_EQ(top[2].token, 1);
}

TEST(TopLogprobsTest, MoreThanTheVocabularyIsTheVocabulary) {
  EXPECT_EQ(TopLogprobs({1, 2}, 0, 20).size(), 3u);
}

TEST(TopLogprobsTest, LargeLogitsDoNotOverflow) {
  const auto top = TopLogprobs({3e38f, 3e38f}, 0, 0);
  EXPECT_NEAR(top[0].logprob, -std::log(2.0), 1e-6);
}

}  // namespace
}  // namespace pregate

#include "scheduler_service/engine/token_output.h"

#include <gtest/gtest.h>

#include "scheduler_service/testing/letter_tokenizer.h"

namespace pregate::scheduler {
namespace {

// 1, 2: the halves of "é"; 7: "a", 8: "b", 9: "c", 10: "dbc ".
class TokenOutputTest : public testing::Test {
 protected:
  TokenOutput Make(std::vector<std::string> stops, std::vector<TokenId> stop_tokens = {},
                   int32_t max_tokens = 100) {
    return TokenOutput(tokenizer_, {std::move(stops), std::move(stop_tokens), max_tokens});
  }
  LetterTokenizer tokenizer_{48};
};

TEST_F(TokenOutputTest, TextComesInWholeCharacters) {
  TokenOutput output = Make({});
  EXPECT_FALSE(output.Accept(7));
  EXPECT_FALSE(output.Accept(1));
  EXPECT_EQ(output.TakeText(), "a");
  EXPECT_FALSE(output.Accept(2));
  EXPECT_EQ(output.TakeText(), "\xC3\xA9");
}

TEST_F(TokenOutputTest, AStopTokenGivesNoText) {
  TokenOutput output = Make({}, {8});
  EXPECT_FALSE(output.Accept(7));
  EXPECT_EQ(output.Accept(8), FinishReason::kStopToken);
  EXPECT_EQ(output.TakeText(), "a");
}

TEST_F(TokenOutputTest, AStopStringAcrossTokensIsCutOut) {
  TokenOutput output = Make({"adb"});
  EXPECT_FALSE(output.Accept(8));
  EXPECT_FALSE(output.Accept(7));
  EXPECT_EQ(output.TakeText(), "b");
  EXPECT_EQ(output.Accept(10), FinishReason::kStopString);
  EXPECT_EQ(output.TakeText(), "");
  EXPECT_EQ(output.stop_string(), "adb");
}

TEST_F(TokenOutputTest, TheEndReleasesWhatWasHeld) {
  TokenOutput length = Make({"abc"}, {}, 2);
  EXPECT_FALSE(length.Accept(7));
  EXPECT_EQ(length.Accept(1), FinishReason::kLength);
  EXPECT_EQ(length.TakeText(), "a\xEF\xBF\xBD");
  TokenOutput stop = Make({"abc"}, {9});
  EXPECT_FALSE(stop.Accept(7));
  EXPECT_EQ(stop.Accept(9), FinishReason::kStopToken);
  EXPECT_EQ(stop.TakeText(), "a");
}

TEST_F(TokenOutputTest, AStopStringInTheLastTokenComesBeforeTheLength) {
  TokenOutput output = Make({"a"}, {}, 1);
  EXPECT_EQ(output.Accept(7), FinishReason::kStopString);
}

}  // namespace
}  // namespace pregate::scheduler

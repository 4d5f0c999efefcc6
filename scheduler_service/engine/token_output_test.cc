#include "scheduler_service/engine/token_output.h"

#include <gtest/gtest.h>

#include <random>

#include "common/model/tokenizer/testing/small_vocabulary.h"
#include "sim/testing/letter_tokenizer.h"

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

TEST_F(TokenOutputTest, NoStopStringIsLookedForInTheFirstTokens) {
  TokenOutput output(tokenizer_, {.stop_strings = {"a", "aa"}, .max_tokens = 9, .min_tokens = 2});
  EXPECT_EQ(output.Accept(7), std::nullopt);
  EXPECT_EQ(output.Accept(7), std::nullopt);
  EXPECT_EQ(output.TakeText(), "aa") << "nor held back";
  EXPECT_EQ(output.Accept(7), FinishReason::kStopString);
  EXPECT_EQ(output.stop_string(), "a") << "what went out is over";
}

// What a client gets, as it is defined: the text of all tokens up to where the first stop string
// ends, the longest of those that end there taken off.
struct Expected {
  std::string text;
  std::optional<std::string> stop;
};
Expected ExpectedOutput(const std::string& whole, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= whole.size(); ++end) {
    const std::string* longest = nullptr;
    for (const std::string& stop : stops) {
      if (!std::string_view(whole).substr(0, end).ends_with(stop)) continue;
      if (longest == nullptr || stop.size() > longest->size()) longest = &stop;
    }
    if (longest != nullptr) return {whole.substr(0, end - longest->size()), *longest};
  }
  return {whole, std::nullopt};
}

// Bytes, merges of characters' halves, a special and two other added tokens, ids without a token.
PipelineTokenizerSpec RandomVocabulary(std::mt19937& random) {
  PipelineTokenizerSpec spec = SmallVocabulary();
  for (const char* merge : {"\xE4\xB8", "\xB8\xAD", "\xF0\x9F", "\x9F\x98", "ab", "b\xE4"}) {
    if (random() % 2) AddMerge({merge[0]}, {merge[1]}, &spec);
  }
  const auto next = static_cast<TokenId>(spec.tokens.size());
  spec.added.push_back({.id = next + 2, .text = "<a\xC3\xA9>"});
  spec.added.push_back({.id = next + 5, .text = "\xE4\xB8\xAD "});
  return spec;
}

TEST(TokenOutputPropertyTest, PiecesAreTheWholeTextUpToTheFirstStopString) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  int num_stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    const auto tokenizer = MakePipelineTokenizer(RandomVocabulary(random)).value();
    const int size = tokenizer->vocab_size();
    std::vector<TokenId> ids;
    for (int n = 1 + random() % 12; n > 0; --n) {
      constexpr int kBytes[] = {'a', 'b', ' ', 0xE4, 0xB8, 0xAD, 0xF0, 0x9F, 0x98, 0x80};
      ids.push_back(random() % 2 ? kFirstByteId + kBytes[random() % 10]
                                 : static_cast<TokenId>(size - 30 + random() % 40));
    }
    IncrementalDecoder decoder(*tokenizer);
    std::string whole;
    for (const TokenId id : ids) whole += decoder.Add(id);
    whole += decoder.Finish();
    std::vector<std::string> stops = {"never"};
    for (int n = random() % 3; n > 0 && !whole.empty(); --n) {
      const size_t begin = random() % whole.size();
      stops.push_back(whole.substr(begin, 1 + random() % 6));  // may cut characters
    }
    TokenOutput output(*tokenizer,
                       {.stop_strings = stops, .max_tokens = static_cast<int32_t>(ids.size())});
    std::string text;
    std::optional<FinishReason> reason;
    for (size_t i = 0; i < ids.size() && !reason; ++i) {
      reason = output.Accept(ids[i]);
      if (random() % 2) text += output.TakeText();
    }
    text += output.TakeText();
    const Expected expected = ExpectedOutput(whole, stops);
    ASSERT_EQ(text, expected.text);
    ASSERT_EQ(output.stop_string(), expected.stop);
    ASSERT_EQ(reason, expected.stop ? FinishReason::kStopString : FinishReason::kLength);
    num_stopped += expected.stop.has_value();
  }
  EXPECT_GT(num_stopped, 500);
}

}  // namespace
}  // namespace pregate::scheduler

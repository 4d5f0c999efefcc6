#include "common/model/tokenizer/word_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "absl/strings/str_format.h"
#include "common/base/utf8.h"
#include "common/model/tokenizer/token_table.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The texts of the tokens of `word`.
std::vector<std::string> TokensOf(const PipelineTokenizerSpec& spec, std::string_view word) {
  const TokenIds ids = IndexTokens(spec).value();
  const auto model = spec.scores.empty() ? MakeCharacterBpe(spec, ids) : MakeUnigram(spec);
  EXPECT_TRUE(model.ok()) << model.status();
  std::vector<TokenId> tokens;
  (*model)->Append(word, &tokens);
  std::vector<std::string> out;
  for (const TokenId id : tokens) out.push_back(spec.tokens[id]);
  return out;
}

PipelineTokenizerSpec Characters() {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>",
                 "a",
                 "b",
                 "c",
                 "ab",
                 "abc",
                 "\xE2\x96\x81",
                 "\xE2\x96\x81"
                 "a"};
  spec.merges = {{"a", "b"}, {"ab", "c"}, {"\xE2\x96\x81", "a"}};
  return spec;
}

TEST(CharacterBpeTest, MergesCharactersByRank) {
  EXPECT_THAT(TokensOf(Characters(), "abcba"), ElementsAre("abc", "b", "a"));
}

TEST(CharacterBpeTest, WhatIsNoTokenIsLeftOutOrUnknown) {
  PipelineTokenizerSpec spec = Characters();
  EXPECT_THAT(TokensOf(spec, "axyb"), ElementsAre("ab"));
  spec.unknown = 0;
  EXPECT_THAT(TokensOf(spec, "axyb"), ElementsAre("a", "<unk>", "<unk>", "b"));
  spec.fuse_unknown = true;
  EXPECT_THAT(TokensOf(spec, "axyb"), ElementsAre("a", "<unk>", "b"));
}

TEST(CharacterBpeTest, WhatIsNoTokenFallsBackToItsBytes) {
  PipelineTokenizerSpec spec = Characters();
  spec.unknown = 0;
  spec.byte_fallback = true;
  spec.tokens.insert(spec.tokens.end(), {"<0xC3>", "<0xA9>"});
  EXPECT_THAT(TokensOf(spec, "a\xC3\xA9"), ElementsAre("a", "<0xC3>", "<0xA9>"));
  EXPECT_THAT(TokensOf(spec, "ax"), ElementsAre("a", "<unk>"));
}

TEST(CharacterBpeTest, AWordThatIsATokenIsTakenWholeWhereMergesAreIgnored) {
  PipelineTokenizerSpec spec = Characters();
  spec.tokens.push_back("cab");
  EXPECT_THAT(TokensOf(spec, "cab"), ElementsAre("c", "ab"));
  spec.ignore_merges = true;
  EXPECT_THAT(TokensOf(spec, "cab"), ElementsAre("cab"));
}

TEST(CharacterBpeTest, WordsStandAloneWhereNoTokenReachesOverASpace) {
  PipelineTokenizerSpec spec = Characters();
  const auto stand_alone = [](const PipelineTokenizerSpec& spec) {
    return MakeCharacterBpe(spec, IndexTokens(spec).value()).value()->words_stand_alone();
  };
  EXPECT_TRUE(stand_alone(spec));
  spec.tokens.push_back("a\xE2\x96\x81");
  EXPECT_FALSE(stand_alone(spec));
}

TEST(UnigramTest, TakesTheLargestSumOfScores) {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>", "a", "b", "ab", "abb"};
  spec.scores = {0, -1, -1, -1.5, -4};
  spec.unknown = 0;
  EXPECT_THAT(TokensOf(spec, "abb"), ElementsAre("ab", "b"));
  EXPECT_THAT(TokensOf(spec, "axxb"), ElementsAre("a", "<unk>", "b"));
  spec.tokens.insert(spec.tokens.end(), {"<0x78>"});
  spec.scores.push_back(-9);
  spec.byte_fallback = true;
  EXPECT_THAT(TokensOf(spec, "axxb"), ElementsAre("a", "<0x78>", "<0x78>", "b"));
}

TEST(UnigramTest, TextNeverBecomesASpecialToken) {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>", "a", "aa"};
  spec.scores = {0, -5, -1};
  spec.unknown = 0;
  spec.added = {{.id = 2, .text = "aa", .special = true}};
  EXPECT_THAT(TokensOf(spec, "aa"), ElementsAre("a", "a"));
}

TEST(UnigramTest, NamesWhatItRefuses) {
  PipelineTokenizerSpec spec;
  spec.tokens = {"<unk>", "a"};
  spec.scores = {0};
  spec.unknown = 0;
  EXPECT_THAT(std::string(MakeUnigram(spec).status().message()), HasSubstr("1 for 2 tokens"));
  spec.scores = {0, INFINITY};
  EXPECT_THAT(std::string(MakeUnigram(spec).status().message()), HasSubstr("score of token 1"));
  spec.scores = {0, 0};
  spec.unknown.reset();
  EXPECT_TRUE(absl::IsUnimplemented(MakeUnigram(spec).status()));
}

// The same merges by another way: words of up to 32 symbols and longer ones are merged apart.
TEST(BpeMergesTest, LongWordsMergeAsTheirShortPartsDo) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  PipelineTokenizerSpec spec;
  spec.tokens = {"a", "b", "c", "-"};
  for (int i = 0; i < 40; ++i) {
    const std::string left = spec.tokens[random() % spec.tokens.size()],
                      right = spec.tokens[random() % spec.tokens.size()];
    if ((left + right).find('-') != std::string::npos) continue;
    spec.merges.emplace_back(left, right);
    const auto& tokens = spec.tokens;
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) {
      spec.tokens.push_back(left + right);
    }
  }
  for (int round = 0; round < 200; ++round) {
    std::string whole;
    std::vector<std::string> parts;
    for (int part = 0; part < 6; ++part) {
      std::string word = "-";
      for (int n = random() % 20; n > 0; --n) word += "abc"[random() % 3];
      whole += word;
      for (std::string& token : TokensOf(spec, word)) parts.push_back(std::move(token));
    }
    EXPECT_EQ(TokensOf(spec, whole), parts) << whole;
  }
}

}  // namespace
}  // namespace pregate

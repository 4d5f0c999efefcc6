#include "common/model/tokenizer/tokenizer_pre.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace pregate {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::string_view>;

Words Split(std::string_view name, std::string_view text) {
  return PreTokenizer::Make(name)->Split(text);
}

TEST(PreTokenizerTest, Gpt2KeepsASpaceWithItsWordAndRunsOfNumbersWhole) {
  EXPECT_THAT(Split("gpt2", "It's  a 1234 test!!\n\n ok"),
              ElementsAre("It", "'s", " ", " a", " 1234", " test", "!!", "\n\n", " ok"));
}

TEST(PreTokenizerTest, SmollmCutsDigitsOneByOneAndEndsWhiteSpaceBeforeThem) {
  EXPECT_THAT(Split("smollm", "a  12,3\n\n4 b  c"),
              ElementsAre("a", "  ", "1", "2", ",", "3", "\n\n", "4", " b", " ", " c"));
  EXPECT_THAT(Split("smollm", "\xC2\xBD\xE2\x85\xA7"), ElementsAre("\xC2\xBD", "\xE2\x85\xA7"));
}

TEST(PreTokenizerTest, Llama3TakesNumbersInThreesAndLineEndsWithWhatStandsBefore) {
  EXPECT_THAT(
      Split("llama-bpe", "I'LL pay $12345.\n\n  So(what)"),
      ElementsAre("I", "'LL", " pay", " $", "123", "45", ".\n\n", " ", " So", "(what", ")"));
}

TEST(PreTokenizerTest, DefaultSetsPunctuationApartAndCutsNumbersInThreesFromTheLeft) {
  EXPECT_THAT(Split("default", "a, 12345"), ElementsAre("a", ",", " ", "123", "45"));
}

TEST(PreTokenizerTest, WhiteSpaceIsUnicodes) {
  // U+00A0 is white space, U+180E is not any more.
  EXPECT_THAT(Split("gpt2", "a\xC2\xA0\xC2\xA0"), ElementsAre("a", "\xC2\xA0\xC2\xA0"));
  EXPECT_THAT(Split("gpt2", "!\xE1\xA0\x8E"), ElementsAre("!\xE1\xA0\x8E"));
}

TEST(PreTokenizerTest, NamesAndAliases) {
  EXPECT_EQ(CanonicalPreTokenizer("gpt-2").value(), "gpt2");
  EXPECT_EQ(CanonicalPreTokenizer("llama3").value(), "llama-bpe");
  EXPECT_EQ(CanonicalPreTokenizer("").value(), "default");
  const absl::Status unknown = CanonicalPreTokenizer("tekken").status();
  EXPECT_TRUE(absl::IsUnimplemented(unknown));
  EXPECT_THAT(std::string(unknown.message()), ::testing::HasSubstr("\"tekken\""));
}

TEST(PreTokenizerTest, WordsTileAnyText) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::vector<std::string> parts = {"'s",       "'S",
                                          "'re",      " ",
                                          "  ",       "\n",
                                          "\r",       "\t",
                                          "a",        "Zq",
                                          "7",        "!",
                                          "$",        "\xC2\xA0",
                                          "\xC3\xA9", "\xE4\xB8\xAD",
                                          "\xC2\xBD", "\xF0\x9F\x98\x80"};
  for (const char* name : {"smollm", "gpt2", "llama-bpe", "default"}) {
    for (int i = 0; i < 200; ++i) {
      std::string text, joined;
      for (int n = random() % 30; n > 0; --n) text += parts[random() % parts.size()];
      for (const std::string_view word : Split(name, text)) {
        EXPECT_FALSE(word.empty() && !text.empty());
        joined += word;
      }
      EXPECT_EQ(joined, text) << name;
    }
  }
}

TEST(PreTokenizerTest, AMebibyteOfOneCharacterStaysWithinTheMatchersLimits) {
  for (const char* name : {"smollm", "gpt2", "llama-bpe", "default"}) {
    for (const char c : {' ', '\n', '\r', 'a', '!', '\'', '7'}) {
      std::string text(size_t{1} << 20, c);
      text += "x";
      size_t size = 0;
      for (const std::string_view word : Split(name, text)) size += word.size();
      EXPECT_EQ(size, text.size()) << name << " " << c;
    }
  }
}

}  // namespace
}  // namespace pregate

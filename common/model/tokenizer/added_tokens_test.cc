#include "common/model/tokenizer/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pregate {
namespace {

using ::testing::HasSubstr;

// The text between tokens as it is, tokens as "[id:text]".
std::string Split(std::vector<AddedToken> tokens, std::string_view text) {
  const auto added = AddedTokens::Make(std::move(tokens));
  EXPECT_TRUE(added.ok()) << added.status();
  std::string out;
  const auto append = [&](const AddedTokens::Stretch& stretch) {
    const std::string piece(stretch.text);
    out += stretch.id ? "[" + std::to_string(*stretch.id) + ":" + piece + "]" : piece;
  };
  for (const AddedTokens::Stretch& plain : added->SplitPlain(text)) {
    if (plain.id) {
      append(plain);
    } else {
      for (const auto& stretch : added->SplitNormalized(plain.text)) append(stretch);
    }
  }
  return out;
}

// The right values of all these are those of `tokenizers` 0.23.3.
TEST(AddedTokensTest, OfTokensAtOnePlaceTheLongestCounts) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .text = "ab"}, {.id = 2, .text = "abcd"}, {.id = 3, .text = "bc"}};
  EXPECT_EQ(Split(tokens, "xabcx"), "x[1:ab]cx");
  EXPECT_EQ(Split(tokens, "abcdab"), "[2:abcd][1:ab]");
  EXPECT_EQ(Split(tokens, "abbc"), "[1:ab][3:bc]");
  EXPECT_EQ(Split(tokens, ""), "");
  EXPECT_EQ(Split({}, "abc"), "abc");
}

TEST(AddedTokensTest, SpecialTokensAreTextAndHideWhatTheyHold) {
  const std::vector<AddedToken> tokens = {{.id = 1, .text = "<s>", .special = true},
                                          {.id = 2, .text = "s"}};
  EXPECT_EQ(Split(tokens, "s<s>s"), "[2:s]<s>[2:s]");
}

TEST(AddedTokensTest, NormalizedTokensComeSecond) {
  const std::vector<AddedToken> tokens = {{.id = 1, .text = "abc", .normalized = true},
                                          {.id = 2, .text = "bc"},
                                          {.id = 3, .text = "a", .normalized = true}};
  EXPECT_EQ(Split(tokens, "abc"), "[3:a][2:bc]");
}

TEST(AddedTokensTest, NormalizedTokensAreLookedForInTheirNormalForm) {
  const auto lowercase = Normalizer::Make({{"type", "Lowercase"}}, "normalizer").value();
  const auto added = AddedTokens::Make({{.id = 1, .text = "AB", .normalized = true},
                                        {.id = 2, .text = "Ab", .normalized = true},
                                        {.id = 3, .text = "C"}},
                                       &lowercase)
                         .value();
  const auto found = added.SplitNormalized("cab");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].id, 2);  // of two with one normal form the later
  const auto nothing = Normalizer::Make(
      {{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}}, "normalizer");
  EXPECT_THAT(
      std::string(AddedTokens::Make({{.id = 1, .text = " ", .normalized = true}}, &nothing.value())
                      .status()
                      .message()),
      HasSubstr("added token 1 \" \" is empty once it is normalized"));
}

TEST(AddedTokensTest, SingleWordsTouchNoWord) {
  const std::vector<AddedToken> tokens = {{.id = 1, .text = "no", .single_word = true}};
  EXPECT_EQ(Split(tokens, "no not no-no _no nono (no)"),
            "[1:no] not [1:no]-[1:no] _no nono ([1:no])");
  EXPECT_EQ(Split(tokens, "\xC3\xA9no no\xCC\x81 no\xE2\x80\x8D \xE2\x82\xACno"),
            "\xC3\xA9no no\xCC\x81 no\xE2\x80\x8D \xE2\x82\xAC[1:no]");
}

TEST(AddedTokensTest, StrippingTokensTakeWhiteSpace) {
  EXPECT_EQ(Split({{.id = 1, .text = "<m>", .lstrip = true}}, "a \n<m> b"), "a[1: \n<m>] b");
  EXPECT_EQ(Split({{.id = 1, .text = "<m>", .rstrip = true}}, "a <m> \xE3\x80\x80\x62"),
            "a [1:<m> \xE3\x80\x80]b");
  EXPECT_EQ(Split({{.id = 1, .text = "<m>", .lstrip = true, .rstrip = true}}, "  <m> <m>"),
            "[1:  <m> ][1:<m>]");
  // What is stripped may be a token itself.
  EXPECT_EQ(Split({{.id = 1, .text = "<m>", .rstrip = true}, {.id = 2, .text = " "}}, "<m>  a"),
            "[1:<m>  ][2: ][2: ]a");
  EXPECT_EQ(
      Split({{.id = 1, .text = "<m>", .rstrip = true}, {.id = 2, .text = " ", .lstrip = true}},
            "<m> a"),
      "[1:<m> ]a");
}

TEST(AddedTokensTest, NamesWhatItRefuses) {
  const auto error = [](std::vector<AddedToken> tokens) {
    return std::string(AddedTokens::Make(std::move(tokens)).status().message());
  };
  EXPECT_THAT(error({{.id = 7, .text = ""}}), HasSubstr("added token 7 \"\" of 0 bytes"));
  EXPECT_THAT(error({{.id = 7, .text = "\xFF"}}), HasSubstr("added token 7 \"\\xff\""));
  EXPECT_THAT(error({{.id = 7, .text = "a"}, {.id = 8, .text = "a"}}),
              HasSubstr("added token 8 \"a\" is token 7 too"));
}

}  // namespace
}  // namespace pregate

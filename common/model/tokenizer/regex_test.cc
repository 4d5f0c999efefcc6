#include "common/model/tokenizer/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/limits.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Find(const std::string& source, std::string_view text) {
  const auto regex = CompileRegex(source);
  EXPECT_TRUE(regex.ok()) << regex.status();
  std::vector<TextMatch> matches;
  (*regex)->FindAll(text, &matches);
  std::vector<std::string> out;
  for (const TextMatch& match : matches) {
    out.emplace_back(text.substr(match.begin, match.end - match.begin));
  }
  return out;
}

TEST(RegexTest, FindsFromLeftToRight) {
  EXPECT_THAT(Find("a+|b", "caabab"), ElementsAre("aa", "b", "a", "b"));
  EXPECT_THAT(Find("\\p{Lu}", "a\xC3\x89z"), ElementsAre("\xC3\x89"));
  EXPECT_THAT(Find("(?i:'ll)", "'LL"), ElementsAre("'LL"));
  EXPECT_THAT(Find("a", ""), ElementsAre());
}

TEST(RegexTest, AnEmptyMatchBehindAnotherIsNone) {
  EXPECT_THAT(Find("x*", "xxb"), ElementsAre("xx", ""));
  EXPECT_THAT(Find("(?=b)",
                   "\xC3\xA9"
                   "bb"),
              ElementsAre("", ""));
  EXPECT_THAT(Find("$", "a"), ElementsAre(""));
}

// A run of white space is looked through from each of its characters: n^2 steps back.
TEST(RegexTest, TextsThatCostTooMuchAreLeftAsTheyAre) {
  const std::string few = std::string(1000, ' ') + "x  ";
  EXPECT_THAT(Find("\\s+$", few), ElementsAre("  "));
  const std::string many = std::string(1 << 20, ' ') + "x  ";
  EXPECT_THAT(Find("\\s+$", many), ElementsAre());
  EXPECT_THAT(Find("(?:a|a)*b", std::string(64, 'a')), ElementsAre());
  EXPECT_THAT(Find("(?:a?){64}a{64}", std::string(63, 'a')), ElementsAre());
}

TEST(RegexTest, AStackThatGrowsTooHighEndsTheSearch) {
  EXPECT_THAT(Find("(?:a|b)*c", std::string(4 << 20, 'a') + "c"), ElementsAre());
}

TEST(RegexTest, NamesWhatItRefuses) {
  const auto error = [](const std::string& source) { return CompileRegex(source).status(); };
  for (const char* source : {"(a", "[", "a**{", "\\p{Nope}", "(?<a", "*"}) {
    const absl::Status status = error(source);
    if (status.ok()) continue;  // Oniguruma reads some of these
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr("regular expression \""));
  }
  EXPECT_TRUE(absl::IsInvalidArgument(error("(a")));
  EXPECT_TRUE(absl::IsInvalidArgument(error("\xFF")));
  EXPECT_TRUE(absl::IsInvalidArgument(error(std::string(kRegexBytesMax + 1, 'a'))));
  EXPECT_TRUE(absl::IsInvalidArgument(error(std::string(1000, '(') + std::string(1000, ')'))));
  for (const char* source :
       {"(a)\\1", "(?<n>a)\\k<n>", "(?~ab)", "(?{x})", "(a)(?(1)b|c)", "a\\K"}) {
    EXPECT_TRUE(absl::IsUnimplemented(error(source))) << source;
  }
  EXPECT_THAT(std::string(error("(a)\\1").message()), HasSubstr("\"\\1\" at byte 3"));
  EXPECT_TRUE(error("\\\\1").ok());
}

}  // namespace
}  // namespace pregate

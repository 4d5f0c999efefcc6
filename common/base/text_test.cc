#include "common/base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace pregate {
namespace {

using namespace std::string_view_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(std::string_view bytes) {
  const auto text = TextOf(bytes, "a.json");
  EXPECT_FALSE(text.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(text.status())) << text.status();
  return std::string(text.status().message());
}

TEST(TextTest, AByteOrderMarkIsNoContent) {
  EXPECT_EQ(TextOf("\xEF\xBB\xBF{}", "a").value(), "{}");
  EXPECT_EQ(TextOf("\xEF\xBB\xBF", "a").value(), "");
  EXPECT_EQ(TextOf("", "a").value(), "");
  EXPECT_EQ(TextOf("{\xEF\xBB\xBF}", "a").value(), "{\xEF\xBB\xBF}");
}

TEST(TextTest, OnlyTheFirstMarkGoes) {
  EXPECT_EQ(TextOf("\xEF\xBB\xBF\xEF\xBB\xBF", "a").value(), "\xEF\xBB\xBF");
}

TEST(TextTest, OtherEncodingsAreNamed) {
  EXPECT_THAT(ErrorOf("\xFF\xFE{\0}\0"sv), HasSubstr("a.json is UTF-16"));
  EXPECT_THAT(ErrorOf("\xFE\xFF\0{"sv), HasSubstr("UTF-16"));
  EXPECT_THAT(ErrorOf("\xFF\xFE\0\0"sv), HasSubstr("UTF-32"));
  EXPECT_THAT(ErrorOf("\0\0\xFE\xFF"sv), HasSubstr("UTF-32"));
}

TEST(TextTest, StrayBytesAreNamedWithTheirPlace) {
  EXPECT_THAT(ErrorOf("ab\ncd\xFF"), HasSubstr("a.json is not UTF-8: byte 5 (line 2) is 0xFF"));
  EXPECT_THAT(ErrorOf("\xC3"), HasSubstr("byte 0 (line 1) is 0xC3"));
  EXPECT_THAT(ErrorOf("\xED\xA0\x80"), HasSubstr("byte 0"));  // a surrogate
  EXPECT_TRUE(CheckUtf8("\xF0\x9F\x98\x80", "x").ok());
}

TEST(TextLinesTest, LinesEndWithLfOrCrlfOrTheText) {
  std::vector<std::string> lines;
  std::vector<int64_t> blank;
  TextLines reader("a\r\n\n \t\r\nb\r\r\nlast");
  while (reader.Next()) {
    lines.emplace_back(reader.line());
    if (reader.IsBlank()) blank.push_back(reader.number());
  }
  EXPECT_THAT(lines, ElementsAre("a", "", " \t", "b\r", "last"));
  EXPECT_THAT(blank, ElementsAre(2, 3));
  EXPECT_FALSE(TextLines("").Next());
}

}  // namespace
}  // namespace pregate

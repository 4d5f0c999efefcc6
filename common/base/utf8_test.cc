#include "common/base/utf8.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(Utf8Test, AcceptsTheFirstAndLastCharacterOfEachLength) {
  for (const char* text :
       {"\x01", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80",
        "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    const std::string_view bytes = text;
    const Utf8Step step = NextUtf8(bytes, 0);
    EXPECT_EQ(step.kind, Utf8Kind::kCharacter) << bytes;
    EXPECT_EQ(step.length, bytes.size()) << bytes;
  }
}

TEST(Utf8Test, RefusesOverlongFormsSurrogatesAndWhatLiesBeyondUnicode) {
  for (const char* text : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                           "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF"}) {
    const Utf8Step step = NextUtf8(text, 0);
    EXPECT_EQ(step.kind, Utf8Kind::kInvalid);
    EXPECT_EQ(step.length, 1u);
    EXPECT_FALSE(IsUtf8(text));
  }
}

TEST(Utf8Test, TellsWhatMoreBytesCouldCompleteFromWhatTheyCannot) {
  EXPECT_EQ(NextUtf8("\xF0\x9F\x98", 0).kind, Utf8Kind::kIncomplete);
  EXPECT_EQ(NextUtf8("\xF0\x9F\x98", 0).length, 3u);
  EXPECT_EQ(NextUtf8("\xF0\x9F\x98x", 0).kind, Utf8Kind::kInvalid);
  EXPECT_EQ(NextUtf8("\xF0\x9F\x98x", 0).length, 3u);
}

TEST(Utf8Test, ReplacesEachStrayByteAndKeepsTheRest) {
  EXPECT_EQ(ReplaceStrayBytes("a\xE2\x82z\xC3\xA9\xFF"),
            "a\xEF\xBF\xBD\xEF\xBF\xBDz\xC3\xA9\xEF\xBF\xBD");
  EXPECT_TRUE(IsUtf8(""));
}

}  // namespace
}  // namespace pregate

#include "common/config/config_file.h"

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ParseConfigTest, ReadsEveryTypeAsAFlagWouldHaveIt) {
  const auto file = ParseConfig(
      "\xef\xbb\xbf# comment\r\nmodel = \"a \\\"b\\\" #c\"\r\npath = 'C:\\x'\r\nn = 0x10\r\n"
      "share = 0.1\r\non = true\r\nlist = [\"a\",\r\n  \"b\", ]\r\n\r\n",
      "f");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->at("model").texts, ElementsAre("a \"b\" #c"));
  EXPECT_THAT(file->at("path").texts, ElementsAre("C:\\x"));
  EXPECT_THAT(file->at("n").texts, ElementsAre("16"));
  EXPECT_THAT(file->at("share").texts, ElementsAre("0.1"));
  EXPECT_THAT(file->at("on").texts, ElementsAre("true"));
  EXPECT_THAT(file->at("list").texts, ElementsAre("a", "b"));
  EXPECT_EQ(file->at("list").line, 7);
  EXPECT_EQ(file->at("list").type, ConfigValue::Type::kStrings);
}

TEST(ParseConfigTest, NamesTheLineOfWhatItRefuses) {
  const struct {
    const char* toml;
    const char* message;
  } kCases[] = {{"a = 1\nb = x\n", "f:2: not TOML"},
                {"model: m\n", "f:1: not TOML"},
                {"a = 1\na = 2\n", "f:2: not TOML"},
                {"a = 1\n[s]\nb = 2\n", "f:2: s is a section"},
                {"a.b = 1\n", "f:1: a is a section"},
                {"a = [[\"b\"]]\n", "f:1: a is an array of other things than strings"},
                {"a = 2024-01-01\n", "f:1: a is a date"},
                {"a = \"b\\u0000c\"\n", "f:1: a is a string that holds a NUL"},
                {"a = \"\xff\"\n", "f:1: not TOML"},
                {"\"a\\nb\" = {}\n", "f:1: a\\nb is a section"}};
  for (const auto& c : kCases) {
    const auto file = ParseConfig(c.toml, "f");
    ASSERT_FALSE(file.ok()) << c.toml;
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(c.message)) << c.toml;
  }
}

// Under UBSan: each once reached what toml++ takes for unreachable.
TEST(ParseConfigTest, LettersBeyondAsciiStandWithinQuotesOnly) {
  for (const std::string letter : {"\u00a7", "\u00e9", "\u0494"}) {
    for (const std::string& toml :
         {letter, letter + " = 1", "a" + letter + " = 1", "a " + letter + "= 1", "a = " + letter,
          "a = 1 " + letter, "a = [" + letter + "]", "a = 1\n" + letter}) {
      EXPECT_FALSE(ParseConfig(toml, "f").ok()) << toml;
    }
    const auto file = ParseConfig("a = \"\"\"x\\\n " + letter + "\"\"\" # " + letter, "f");
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_THAT(file->at("a").texts, ElementsAre("x" + letter));
  }
}

// TOML's basic string of `text`: each character as \UXXXXXXXX or as itself.
std::string Quoted(const std::u32string& text, std::mt19937& random, std::string* utf8) {
  std::string quoted = "\"";
  for (const char32_t c : text) {
    std::string bytes;
    if (c < 0x80) {
      bytes = std::string(1, static_cast<char>(c));
    } else {
      for (int shift = c < 0x800 ? 6 : c < 0x10000 ? 12 : 18; shift >= 0; shift -= 6) {
        const bool lead = bytes.empty();
        const uint32_t mark = !lead ? 0x80 : c < 0x800 ? 0xC0 : c < 0x10000 ? 0xE0 : 0xF0;
        bytes += static_cast<char>(mark | ((c >> shift) & (lead ? 0x1F : 0x3F)));
      }
    }
    *utf8 += bytes;
    const bool must = c < 0x20 || c == '"' || c == '\\' || c == 0x7F;
    quoted +=
        must || random() % 4 == 0 ? absl::StrFormat("\\U%08X", static_cast<uint32_t>(c)) : bytes;
  }
  return quoted + "\"";
}

TEST(ParseConfigTest, AnyStringArrivesAsItWasWritten) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    std::u32string text;
    for (int n = random() % 12; n > 0; --n) {
      const char32_t kRanges[] = {0x20, 0x80, 0x800, 0xD800, 0x10FFFF};
      char32_t c = 1 + random() % kRanges[random() % 5];
      if (c >= 0xD800 && c < 0xE000) c = '\\';
      text += c;
    }
    std::string utf8;
    const std::string toml = absl::StrCat("a = ", Quoted(text, random, &utf8), "\n");
    const auto file = ParseConfig(toml, "f");
    ASSERT_TRUE(file.ok()) << toml << file.status();
    ASSERT_THAT(file->at("a").texts, ElementsAre(utf8)) << toml;
  }
}

}  // namespace
}  // namespace pregate

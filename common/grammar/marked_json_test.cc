#include "common/grammar/marked_json.h"

#include <random>
#include <regex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/grammar/constraint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const TokenTrie> Bytes() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.emplace_back();
  return std::make_shared<TokenTrie>(tokens, std::vector<TokenId>{256});
}

std::shared_ptr<CompiledGrammar> Compile(const MarkedJsonConstraint& constraint) {
  auto grammar = CompileConstraint(constraint, Bytes());
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  return *grammar;
}

struct Verdict {
  bool begins, complete;
};
Verdict Read(const std::shared_ptr<CompiledGrammar>& grammar, std::string_view text) {
  Matcher matcher(grammar);
  const bool begins = text.empty() || matcher.Advance(text);
  return {begins, begins && matcher.CanEnd()};
}

constexpr char kInteger[] = R"({"type": "integer"})";

TEST(MarkedJsonTest, TextIsFreeUntilAMarkAndJsonBehindIt) {
  const auto grammar =
      Compile({"<tool_call>", "</tool_call>",
               R"({"properties": {"name": {"const": "f"}}, "required": ["name"]})"});
  for (const char* text : {"", "Just {text}, \xC3\xA4 \xFF <tool <<tool_cal </tool_call>",
                           "<tool_calls>", "<tool_call>{\"name\":\"f\"}</tool_call>",
                           "Hm.\n<<tool_call>\n{\"name\": "
                           "\"f\"}\n</tool_call>\n<tool_call>{\"name\":\"f\"}</tool_call> <"}) {
    EXPECT_TRUE(Read(grammar, text).complete) << text;
  }
  for (const char* text : {"<tool_call>", "a <tool_call>\n{\"na", "<tool_call>{\"name\":\"f\"}",
                           "<tool_call>{\"name\":\"f\"}</tool"}) {
    EXPECT_TRUE(Read(grammar, text).begins && !Read(grammar, text).complete) << text;
  }
  for (const char* text : {"<tool_call>x", "<tool_call>{\"name\":\"g\"", "<tool_call>     {",
                           "<tool_call>{\"name\":\"f\"} so", "<<tool_<tool_call>[",
                           "<tool_call>{\"name\":\"f\"}</tool_call><tool_call>x"}) {
    EXPECT_FALSE(Read(grammar, text).begins) << text;
  }
}

TEST(MarkedJsonTest, OnceTheMarkIsUsedItComesNoMore) {
  const auto grammar = Compile({"<c>", "", kInteger, /*once=*/true});
  EXPECT_TRUE(Read(grammar, "a <c>1 and <c").complete);
  EXPECT_FALSE(Read(grammar, "a <c>1 and <c>").begins);
}

// Against the same said by regular expressions, on texts that are full of marks.
TEST(MarkedJsonTest, RandomTexts) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const auto grammar = Compile({"<cd>", ";", kInteger});
  const std::regex integer("^[ \n]{0,4}-?(?:0|[1-9][0-9]{0,17})[ \n]{0,4};");
  const auto complete = [&](std::string text) {
    while (true) {
      const size_t mark = text.find("<cd>");
      if (mark == std::string::npos) return true;
      text.erase(0, mark + 4);
      std::smatch match;
      if (!std::regex_search(text, match, integer)) return false;
      text.erase(0, match.length());
    }
  };
  const char* const kParts[] = {"<", "<c", "<cd>", "<cd>1;", "d>", "c",  "d",
                                ">", ";",  "1",    "-20",    " ",  "\n", "x"};
  int complete_texts = 0, marked = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (uint64_t n = random() % 8; n > 0; --n) text += kParts[random() % std::size(kParts)];
    const bool expected = complete(text);
    ASSERT_EQ(Read(grammar, text).complete, expected) << text;
    complete_texts += expected;
    marked += expected && text.find("<cd>") != std::string::npos;
  }
  EXPECT_GT(complete_texts, 1000);
  EXPECT_GT(marked, 100);
}

TEST(MarkedJsonTest, MistakesAreNamed) {
  const auto error = [](const MarkedJsonConstraint& marked) {
    return std::string(CompileConstraint(marked, Bytes()).status().message());
  };
  EXPECT_THAT(error({"", "", kInteger}), HasSubstr("marked_json.begin: 0 bytes"));
  EXPECT_THAT(error({"<", "", kInteger}), HasSubstr("marked_json.begin: 1 bytes"));
  EXPECT_THAT(error({"<c<", "", kInteger}), HasSubstr("the first of which"));
  EXPECT_THAT(error({"<c\xFF", "", kInteger}), HasSubstr("marked_json.begin"));
  EXPECT_THAT(error({"<c>", std::string(65, 'x'), kInteger}), HasSubstr("marked_json.end: 65"));
  EXPECT_THAT(error({"<c>", "", R"({"not": {}})"}), HasSubstr("/not"));
}

}  // namespace
}  // namespace pregate

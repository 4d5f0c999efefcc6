#include "gateway_service/core/tool_calls.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"

namespace pregate::gateway {
namespace {

const ToolFormat kHermes = {.name = "hermes", .begin = "<tool_call>", .end = "</tool_call>"};
const ToolFormat kMistral = {.name = "mistral", .begin = "[TOOL_CALLS]", .is_list = true};
const ToolFormat kLlama = {.name = "llama3_json"};
const ToolFormat kList = {.name = "list", .is_list = true};

// "text|f({...})|text": pieces of text that touch are one. A call that has begun and not ended lacks its
// last bracket.
std::string Join(const std::vector<ToolCallParser::Piece>& pieces) {
  std::string out;
  bool in_text = false;
  for (const auto& piece : pieces) {
    const auto* const text = std::get_if<std::string>(&piece);
    const auto* const more = std::get_if<CallArguments>(&piece);
    const bool goes_on =
        (in_text && text != nullptr) || more != nullptr || std::holds_alternative<CallEnd>(piece);
    if (!goes_on && !out.empty()) out += "|";
    in_text = text != nullptr;
    if (text != nullptr) {
      out += *text;
    } else if (const auto* const call = std::get_if<ToolCall>(&piece)) {
      absl::StrAppend(&out, call->name, "(", call->arguments, ")");
    } else if (const auto* const begin = std::get_if<CallBegin>(&piece)) {
      absl::StrAppend(&out, begin->name, "(");
    } else {
      out += more != nullptr ? more->piece : ")";
    }
  }
  return out;
}

// Cut behind each of `ends`.
std::string Parse(const ToolFormat& format, const std::string& text,
                  const std::vector<size_t>& ends = {}, bool in_parts = false) {
  ToolCallParser parser(format, {"f", "get_weather"}, in_parts);
  std::vector<ToolCallParser::Piece> all;
  const auto add = [&](std::vector<ToolCallParser::Piece> pieces) {
    for (auto& piece : pieces) all.push_back(std::move(piece));
  };
  size_t begin = 0;
  for (const size_t end : ends) {
    add(parser.Add(text.substr(begin, end - begin)));
    begin = end;
  }
  add(parser.Add(text.substr(begin)));
  add(parser.Finish());
  return Join(all);
}

struct Case {
  const ToolFormat* format;
  const char* text;
  const char* expected;
  const char* in_parts = nullptr;  // where it is something else; white space in arguments stays
};
const Case kCases[] = {
    {&kHermes, "", ""},
    {&kHermes, "no call \n", "no call \n"},
    {&kHermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n</tool_call>",
     "f({\"x\":1})", "f({\"x\": 1})"},
    {&kHermes, "Let me see.\n\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n",
     "Let me see.|f({})"},
    {&kHermes,
     "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
     "<tool_call>{\"name\":\"get_weather\",\"arguments\":{\"a\":[{}]}}</tool_call> so",
     "f({})|get_weather({\"a\":[{}]})|so"},
    // What ends a call may stand in its strings, and may be missing.
    {&kHermes,
     "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":\"</tool_call>}\\\"\"}}</tool_call>.",
     "f({\"x\":\"</tool_call>}\\\"\"})|."},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "f({})"},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": 2}\"}</tool_call>",
     "f({\"x\":2})"},
    // Malformed: text.
    {&kHermes, "a <tool_call> b", "a <tool_call> b"},
    {&kHermes, "a <tool_cal", "a <tool_cal"},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}",
     "<tool_call>{\"name\":\"f\",\"arguments\":{}", "f({})"},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\": [1, ",
     "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\": [1, ", "f({\"x\": [1, "},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{x}, \"id\": \"}\"}</tool_call>.",
     "<tool_call>{\"name\":\"f\",\"arguments\":{x}, \"id\": \"}\"}</tool_call>.", "f({x})|."},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}</tool_call>.",
     "<tool_call>{\"name\":\"f\",\"arguments\":{}</tool_call>.", "f({})|."},
    // What begins otherwise comes out whole.
    {&kHermes, "<tool_call>{\"arguments\": {\"x\": 1}, \"name\": \"f\"}</tool_call>",
     "f({\"x\":1})"},
    {&kHermes, "<tool_call>{\"name\": \"\\u0066\", \"arguments\": {\"x\": 1}}</tool_call>",
     "f({\"x\":1})"},
    {&kHermes, "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>",
     "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>"},
    {&kHermes, "<tool_call>{\"name\":\"f\"}</tool_call>",
     "<tool_call>{\"name\":\"f\"}</tool_call>"},
    {&kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":[]}</tool_call>",
     "<tool_call>{\"name\":\"f\",\"arguments\":[]}</tool_call>"},
    {&kHermes,
     "<tool_call>{name:f}</tool_call><tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
     "<tool_call>{name:f}</tool_call>|f({})"},
    {&kHermes, "<tool_call><tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
     "<tool_call>|f({})"},
    {&kMistral,
     "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}, \"id\": \"123456789\"}]",
     "f({\"x\":1})", "f({\"x\": 1})"},
    {&kMistral,
     "Hm. [TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}},{\"name\":\"f\",\"arguments\":{}}]",
     "Hm.|f({})|f({})"},
    {&kMistral, "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]",
     "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}},{\"name\":\"g\",\"arguments\":{}}]",
     "f({})|,{\"name\":\"g\",\"arguments\":{}}]"},
    {&kMistral, "[TOOL_CALLS][]", "[TOOL_CALLS][]"},
    {&kMistral, "[1, 2]", "[1, 2]"},
    {&kLlama, " {\"name\": \"f\", \"parameters\": {\"x\": 1}}", "f({\"x\":1})", "f({\"x\": 1})"},
    {&kLlama, "{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"f\",\"arguments\":{}}",
     "f({})|f({})"},
    {&kLlama, "{\"name\":\"f\",\"parameters\":{}} and more", "f({})|and more"},
    {&kLlama, "{\"city\": \"Bern\"}\n", "{\"city\": \"Bern\"}\n"},
    {&kLlama, "So {\"name\":\"f\",\"parameters\":{}}", "So {\"name\":\"f\",\"parameters\":{}}"},
    {&kList,
     "[{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {}}]",
     "f({})|get_weather({})"},
    {&kList, "[{\"name\": \"f\", \"argum", "[{\"name\": \"f\", \"argum"},
};

TEST(ToolCallsTest, CallsAreFoundAndTheRestIsText) {
  for (const Case& c : kCases) EXPECT_EQ(Parse(*c.format, c.text), c.expected) << c.text;
}

TEST(ToolCallsTest, CutsBetweenTwoBytesChangeNothing) {
  for (const Case& c : kCases) {
    for (const bool in_parts : {false, true}) {
      const std::string text = c.text;
      const char* const expected = in_parts && c.in_parts != nullptr ? c.in_parts : c.expected;
      std::vector<size_t> all;
      for (size_t i = 1; i < text.size(); ++i) {
        all.push_back(i);
        EXPECT_EQ(Parse(*c.format, text, {i}, in_parts), expected) << text << " cut at " << i;
      }
      EXPECT_EQ(Parse(*c.format, text, all, in_parts), expected) << text << " byte by byte";
    }
  }
}

TEST(ToolCallsTest, ArgumentsComeAsTheyAreWritten) {
  ToolCallParser parser(kHermes, {"f"}, /*in_parts=*/true);
  EXPECT_TRUE(parser.Add(R"(<tool_call>{"name": "f", "arguments": )").empty());
  EXPECT_EQ(Join(parser.Add(R"({"x": "lo)")), R"(f({"x": "lo)");
  EXPECT_EQ(Join(parser.Add("ng")), "ng");
  EXPECT_EQ(Join(parser.Add(R"("}})")), R"("}))");
  // A head that goes on for long is none.
  const std::string spaces(2000, ' ');
  EXPECT_EQ(
      Parse(kHermes, "<tool_call>{" + spaces + R"("name": "f", "arguments": {"x": 1}}</tool_call>)",
            {}, true),
      R"(f({"x":1}))");
}

// Texts of the parts that matter, in any order, cut anywhere.
TEST(ToolCallsTest, HoweverTextIsCutTheCallsAreTheSame) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  const char* const kParts[] = {"<tool_call>",
                                "</tool_call>",
                                "[TOOL_CALLS]",
                                "{\"name\": \"f\", \"arguments\": {}}",
                                "{\"name\": \"f\", \"arguments\": {",
                                "{\"name\":\"f\",\"parameters\":{\"x\":\"}\"}}",
                                "[",
                                "]",
                                "{",
                                "}",
                                ",",
                                ";",
                                "\"",
                                "\\",
                                " ",
                                "\n",
                                "\t ",
                                "<tool",
                                "[TOOL",
                                "text",
                                "\xC3\xA4",
                                "[]"};
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (int n = random() % 12; n > 0; --n) text += kParts[random() % std::size(kParts)];
    if (random() % 50 == 0) text += std::string(random() % 600, ' ') + "<tool_call>";
    for (const ToolFormat* format : {&kHermes, &kMistral, &kLlama, &kList}) {
      std::vector<size_t> ends;
      for (int n = random() % 6; n > 0 && !text.empty(); --n)
        ends.push_back(random() % text.size());
      std::sort(ends.begin(), ends.end());
      for (const bool in_parts : {false, true}) {
        ASSERT_EQ(Parse(*format, text, ends, in_parts), Parse(*format, text, {}, in_parts))
            << format->name << (in_parts ? " in parts: " : ": ") << text;
      }
    }
  }
}

TEST(ToolCallsTest, CallsAreBounded) {
  const std::string begin = R"(<tool_call>{"name":"f","arguments":{"x":")";
  const std::string fits = begin + std::string(kToolCallBytesMax / 2, 'x') + "\"}}</tool_call>";
  EXPECT_EQ(Parse(kHermes, fits).substr(0, 2), "f(");
  const std::string too_long = begin + std::string(kToolCallBytesMax, 'x') + "\"}}</tool_call>";
  EXPECT_EQ(Parse(kHermes, too_long), too_long);
}

TEST(ToolCallsTest, IdsSuitMistralsTemplates) {
  EXPECT_EQ(ToolCallId("a", 0, 0).size(), 9);
  EXPECT_NE(ToolCallId("a", 0, 0), ToolCallId("a", 0, 1));
  EXPECT_NE(ToolCallId("a", 0, 0), ToolCallId("b", 0, 0));
}

}  // namespace
}  // namespace pregate::gateway

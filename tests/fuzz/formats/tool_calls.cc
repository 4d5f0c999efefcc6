// What a model writes where it may call tools: a letter for the form of calls and whether they come in parts, where
// the text is cut, the text.
#include "gateway_service/core/tool_calls.h"

#include "common/base/json.h"
#include "common/base/status.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::tool_calls {
namespace {

using gateway::ToolCall;
using gateway::ToolCallParser;
using gateway::ToolFormat;

ToolFormat FormOf(char letter) {
  switch (letter % 4) {
    case 0:
      return {.name = "hermes", .begin = "<tool_call>", .end = "</tool_call>"};
    case 1:
      return {.name = "mistral", .begin = "[TOOL_CALLS]", .is_list = true};
    case 2:
      return {.name = "llama3_json"};
    default:
      return {.name = "list", .is_list = true};
  }
}

bool IsTool(const std::string& name) { return name == "f" || name == "get_weather"; }

// Adds each piece to a text: what touches joined, between other pieces a byte that no text has.
struct Joined {
  std::string out;
  int num_calls = 0;
  enum { kText, kCall, kBehind } place = kText;

  void operator()(const std::string& text) {
    PREGATE_CHECK(place != kCall && !text.empty());
    if (place == kBehind) out += '\xFF';
    place = kText;
    out += text;
  }
  void operator()(const ToolCall& call) {
    const auto arguments = ParseOrderedJson(call.arguments, "arguments");
    PREGATE_CHECK(arguments.ok() && arguments->is_object(), "in ", call.arguments);
    (*this)(gateway::CallBegin{call.name});
    out += call.arguments;
    (*this)(gateway::CallEnd{});
  }
  void operator()(const gateway::CallBegin& begin) {
    PREGATE_CHECK(place != kCall && IsTool(begin.name));
    place = kCall;
    out += '\xFF' + begin.name;
    ++num_calls;
  }
  void operator()(const gateway::CallArguments& arguments) {
    PREGATE_CHECK(place == kCall && !arguments.piece.empty());
    out += arguments.piece;
  }
  void operator()(const gateway::CallEnd&) {
    PREGATE_CHECK(place == kCall);
    place = kBehind;
  }
};

std::string Parse(char letter, std::string_view text, size_t piece, int* num_calls) {
  ToolCallParser parser(FormOf(letter), {"f", "get_weather"}, /*in_parts=*/letter / 4 % 2 == 0);
  Joined joined;
  const auto add = [&](const std::vector<ToolCallParser::Piece>& pieces) {
    for (const auto& p : pieces) std::visit([&](const auto& part) { joined(part); }, p);
  };
  for (size_t i = 0; i < text.size(); i += piece) {
    const std::string_view part = text.substr(i, piece);
    add(parser.Add({part.data(), part.size()}));
  }
  add(parser.Finish());
  *num_calls += joined.num_calls;
  return joined.out;
}

// However text is cut, the calls are the same.
bool Run(std::string_view input) {
  if (input.size() < 2) return false;
  const char form = static_cast<char>(input[0] & 0x7F);
  const std::string_view text = input.substr(2);
  int whole = 0, pieces = 0, bytes = 0;
  const std::string expected = Parse(form, text, std::max<size_t>(text.size(), 1), &whole);
  const size_t piece = 1 + static_cast<unsigned char>(input[1]) % 32;
  PREGATE_CHECK(Parse(form, text, piece, &pieces) == expected, "in pieces of ", piece);
  PREGATE_CHECK(Parse(form, text, 1, &bytes) == expected, "byte by byte");
  return whole > 0;
}

std::vector<std::string> Seeds() {
  return {
      "\x04\x05I see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": "
      "\"}</tool_call>\"}}\n</tool_call>\n"
      "<tool_call>{\"name\":\"get_weather\",\"arguments\":\"{}\"}</tool_call> so",
      "\x05\x06Hm. [TOOL_CALLS] [{\"name\":\"f\",\"arguments\":{},\"id\":\"123456789\"}, "
      "{\"name\":\"f\",\"arguments\":{\"a\":[1]}}]",
      "\x06\x07{\"name\":\"f\",\"parameters\":{\"x\":null}}; {\"name\":\"f\",\"parameters\":{}}",
      "\x07\x08[{\"name\":\"f\",\"arguments\":{\"x\":\"\\u00e9\\\"\"}}]"};
}

const Registration registration(
    {.name = "tool_calls", .seeds = Seeds, .run = Run, .bytes_max = 4 << 10});

}  // namespace
}  // namespace pregate::fuzz::tool_calls

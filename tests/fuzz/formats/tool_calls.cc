// What a model writes where it may call tools: a letter for the form of calls, where the text is cut, the text.
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

// Texts that touch joined; between other pieces a byte that no text has.
std::string Parse(const ToolFormat& form, std::string_view text, size_t piece, int* num_calls) {
  ToolCallParser parser(form, {"f", "get_weather"});
  std::string out;
  bool in_text = true;
  const auto add = [&](const std::vector<ToolCallParser::Piece>& pieces) {
    for (const auto& p : pieces) {
      const auto* const call = std::get_if<ToolCall>(&p);
      if (call != nullptr || !in_text) out += '\xFF';
      in_text = call == nullptr;
      if (in_text) {
        out += std::get<std::string>(p);
      } else {
        const auto arguments = ParseOrderedJson(call->arguments, "arguments");
        PREGATE_CHECK(arguments.ok() && arguments->is_object(), "in ", call->arguments);
        PREGATE_CHECK(call->name == "f" || call->name == "get_weather");
        out += call->name + call->arguments;
        ++*num_calls;
      }
    }
  };
  for (size_t i = 0; i < text.size(); i += piece) {
    const std::string_view part = text.substr(i, piece);
    add(parser.Add({part.data(), part.size()}));
  }
  add(parser.Finish());
  return out;
}

// However text is cut, the calls are the same.
bool Run(std::string_view input) {
  if (input.size() < 2) return false;
  const ToolFormat form = FormOf(input[0]);
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

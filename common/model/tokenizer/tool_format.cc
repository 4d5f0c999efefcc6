#include "common/model/tokenizer/tool_format.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/model/tokenizer/conversation.h"

namespace pregate {
namespace {

constexpr char kTool[] = "trial_tool", kResult[] = "trial_result", kQuestion[] = "trial_text";

struct Form {
  const char* name;
  const char* begin;
  const char* end;
  bool is_list;
  const char* arguments;  // what the member is called
};
constexpr Form kForms[] = {
    {"hermes", "<tool_call>", "</tool_call>", false, "arguments"},
    {"mistral", "[TOOL_CALLS]", "", true, "arguments"},
    {"llama3_json", "", "", false, "parameters"},
};

Conversation Trial() {
  Conversation trial;
  trial.tools = OrderedJson::array(
      {{{"type", "function"},
        {"function",
         {{"name", kTool},
          {"description", "A tool."},
          {"parameters",
           {{"type", "object"},
            {"properties", {{"key", {{"type", "integer"}, {"description", "A number."}}}}},
            {"required", OrderedJson::array({"key"})}}}}}}});
  const OrderedJson call = {{"id", "123456789"},  // so long is each of Mistral's
                            {"type", "function"},
                            {"function", {{"name", kTool}, {"arguments", {{"key", 7}}}}}};
  trial.messages = OrderedJson::array(
      {{{"role", "user"}, {"content", kQuestion}},
       {{"role", "assistant"}, {"content", ""}, {"tool_calls", OrderedJson::array({call})}},
       {{"role", "tool"}, {"tool_call_id", "123456789"}, {"name", kTool}, {"content", kResult}}});
  return trial;
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::optional<ToolFormat> FindToolFormat(const Tokenizer& tokenizer) {
  auto with_tool = Trial(), without = Trial();
  without.tools = nullptr;
  const auto laid_out = tokenizer.LayOutConversation(with_tool);
  if (!laid_out.ok() || !Contains(*laid_out, kResult) || !Contains(*laid_out, kQuestion)) {
    return std::nullopt;
  }
  // Else the tools themselves are left out.
  const auto bare = tokenizer.LayOutConversation(without);
  if (bare.ok() && *bare == *laid_out) return std::nullopt;
  std::string text = *laid_out;
  text.erase(std::remove_if(text.begin(), text.end(), absl::ascii_isspace), text.end());
  for (const Form& form : kForms) {
    const std::string call =
        absl::StrCat(form.begin, form.is_list ? "[" : "", R"({"name":")", kTool, R"(",")",
                     form.arguments, R"(":{"key":7})", form.is_list ? "" : "}", form.end);
    if (!Contains(text, call)) continue;
    ToolFormat found = {
        .name = form.name, .begin = form.begin, .end = form.end, .is_list = form.is_list};
    const auto id = tokenizer.SpecialId(found.begin);
    if (id && tokenizer.TokenBytes(*id).empty()) found.begin_token = id;
    return found;
  }
  return std::nullopt;
}

}  // namespace pregate

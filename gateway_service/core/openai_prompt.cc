#include "gateway_service/core/openai_prompt.h"

#include "absl/strings/str_cat.h"
#include "common/base/gateway_limits.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_field.h"
#include "gateway_service/core/request_field.h"
#include "gateway_service/core/tools.h"

namespace pregate::gateway::openai {

using json = Json;

namespace {

absl::StatusOr<ToolCall> ReadToolCall(const std::string& name, const json& value) {
  if (!value.is_object())
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object"));
  RETURN_IF_ERROR(CheckMembers(name, value, {"id", "type", "function", "index"}));
  const json type = value.value("type", json());
  if (type != "function") {
    return Unsupported(name + ".type",
                       absl::StrCat("is ", Shown(type), ": only \"function\" is supported"));
  }
  const json function = value.value("function", json());
  const std::string at = name + ".function";
  if (!function.is_object())
    return Invalid(at, absl::StrCat("is ", Shown(function), ", not an object"));
  RETURN_IF_ERROR(CheckMembers(at, function, {"name", "arguments"}));
  ToolCall call;
  ASSIGN_OR_RETURN(call.id, ReadString(name + ".id", value.value("id", json())));
  ASSIGN_OR_RETURN(call.name, ReadString(at + ".name", function.value("name", json())));
  ASSIGN_OR_RETURN(call.arguments,
                   ReadString(at + ".arguments", function.value("arguments", json())));
  const std::optional<Json> arguments = ParseJsonText(call.arguments);
  if (arguments && arguments->is_object()) return call;
  return Invalid(at + ".arguments",
                 absl::StrCat("is ", Shown(call.arguments), ", not a JSON object"));
}

absl::StatusOr<std::vector<ToolCall>> ReadToolCalls(const std::string& name, const json& value) {
  if (!value.is_array() || value.size() > static_cast<size_t>(kToolsMax)) {
    return Invalid(
        name, absl::StrCat("is ", Shown(value), ", not an array of at most ", kToolsMax, " calls"));
  }
  std::vector<ToolCall> calls;
  for (const json& call : value) {
    ASSIGN_OR_RETURN(ToolCall read, ReadToolCall(absl::StrCat(name, "[", calls.size(), "]"), call));
    calls.push_back(std::move(read));
  }
  return calls;
}

absl::StatusOr<Message> ReadMessage(const std::string& name, const json& value) {
  if (!value.is_object())
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object"));
  Message message;
  for (const auto& [key, member] : value.items()) {
    const std::string field = absl::StrCat(name, ".", key);
    if (key == "role") {
      ASSIGN_OR_RETURN(message.role, ReadString(field, member));
    } else if (key == "content") {
      if (member.is_null()) continue;
      ASSIGN_OR_RETURN(message.content, ReadTextContent(field, member));
    } else if (key == "name") {
      continue;  // templates have no place for it
    } else if (key == "tool_calls" && !member.is_null()) {
      ASSIGN_OR_RETURN(message.tool_calls, ReadToolCalls(field, member));
    } else if (key == "tool_call_id" && !member.is_null()) {
      ASSIGN_OR_RETURN(message.tool_call_id, ReadString(field, member));
    } else if (key == "refusal" || key == "audio" || key == "tool_calls" ||
               key == "function_call" || key == "annotations" || key == "tool_call_id") {
      // An answer that is sent back has them, empty.
      if (!member.is_null()) RETURN_IF_ERROR(OnlyEmpty(field, member, nullptr));
    } else {
      return UnknownField(absl::StrCat(name, ".", key));
    }
  }
  if (message.role == "developer") message.role = "system";
  if (message.role == "function") {
    return Unsupported(absl::StrCat(name, ".role"), "is \"function\": \"tool\" is supported");
  }
  if (message.role != "system" && message.role != "user" && message.role != "assistant" &&
      message.role != "tool") {
    return Invalid(absl::StrCat(name, ".role"),
                   absl::StrCat("is ", Shown(message.role),
                                ", not system, developer, user, assistant or tool"));
  }
  const bool is_missing = !value.contains("content") || value["content"].is_null();
  if (is_missing && message.tool_calls.empty()) {
    return Invalid(absl::StrCat(name, ".content"), "is missing");
  }
  if (!message.tool_calls.empty() && message.role != "assistant") {
    return Invalid(absl::StrCat(name, ".tool_calls"), "belongs to an assistant's message");
  }
  if (message.tool_call_id.empty() != (message.role != "tool")) {
    return Invalid(absl::StrCat(name, ".tool_call_id"),
                   "belongs to a tool's message, which must have it");
  }
  return message;
}

}  // namespace

absl::Status ReadMessages(absl::string_view name, const json& value, Generation* out) {
  if (!value.is_array() || value.empty() || value.size() > static_cast<size_t>(kChatMessagesMax)) {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an array of 1 to ",
                                      kChatMessagesMax, " messages"));
  }
  Conversation messages;
  for (const json& message : value) {
    ASSIGN_OR_RETURN(Message read,
                     ReadMessage(absl::StrCat(name, "[", messages.size(), "]"), message));
    messages.push_back(std::move(read));
  }
  out->prompt = std::move(messages);
  return absl::OkStatus();
}

namespace {

absl::StatusOr<Prompt> ReadOnePrompt(absl::string_view name, const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array() && !value.empty()) return ReadIds(name, value);
  return Invalid(name,
                 absl::StrCat("is ", Shown(value), ", not a string or an array of token ids"));
}

}  // namespace

// A text or its ids, or an array of these.
absl::Status ReadPrompt(absl::string_view name, const json& value, Generation* out) {
  const bool is_list = value.is_array() && !value.empty() && !value[0].is_number();
  if (!is_list) {
    ASSIGN_OR_RETURN(out->prompt, ReadOnePrompt(name, value));
    return absl::OkStatus();
  }
  if (value.size() > static_cast<size_t>(kPromptsMax)) {
    return Invalid(name, absl::StrCat("has ", value.size(), " prompts, not at most ", kPromptsMax));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    ASSIGN_OR_RETURN(Prompt prompt, ReadOnePrompt(absl::StrCat(name, "[", i, "]"), value[i]));
    if (i == 0) {
      out->prompt = std::move(prompt);
    } else {
      out->more_prompts.push_back(std::move(prompt));
    }
  }
  return absl::OkStatus();
}

}  // namespace pregate::gateway::openai

#include "gateway_service/core/openai_prompt.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_field.h"
#include "gateway_service/core/request_field.h"

namespace pregate::gateway::openai {

using json = Json;

namespace {

absl::StatusOr<Message> ReadMessage(const std::string& name, const json& value) {
  if (!value.is_object())
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an object"));
  Message message;
  for (const auto& [key, member] : value.items()) {
    const std::string field = absl::StrCat(name, ".", key);
    if (key == "role") {
      ASSIGN_OR_RETURN(message.role, ReadString(field, member));
    } else if (key == "content") {
      ASSIGN_OR_RETURN(message.content, ReadTextContent(field, member));
    } else if (key == "name") {
      continue;  // templates have no place for it
    } else if (key == "refusal" || key == "audio" || key == "tool_calls" ||
               key == "function_call" || key == "annotations" || key == "tool_call_id") {
      // An answer that is sent back has them, empty.
      if (!member.is_null()) RETURN_IF_ERROR(OnlyEmpty(field, member, nullptr));
    } else {
      return UnknownField(absl::StrCat(name, ".", key));
    }
  }
  if (!value.contains("content")) return Invalid(absl::StrCat(name, ".content"), "is missing");
  if (message.role == "developer") message.role = "system";
  if (message.role == "system" || message.role == "user" || message.role == "assistant") {
    return message;
  }
  if (message.role == "tool" || message.role == "function") {
    return Unsupported(absl::StrCat(name, ".role"),
                       absl::StrCat("is \"", message.role, "\": tools are not supported"));
  }
  return Invalid(
      absl::StrCat(name, ".role"),
      absl::StrCat("is ", Shown(message.role), ", not system, developer, user or assistant"));
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

// A text or its ids; either may be the one entry of an array.
absl::Status ReadPrompt(absl::string_view name, const json& value, Generation* out) {
  const json& first = value.is_array() && !value.empty() ? value[0] : value;
  const bool is_list = value.is_array() && !value.empty() && !first.is_number();
  if (is_list && value.size() > 1) {
    return Unsupported(name, absl::StrCat("has ", value.size(), " prompts: only 1 is supported"));
  }
  const json& prompt = is_list ? first : value;
  if (prompt.is_string()) {
    out->prompt = prompt.get<std::string>();
    return absl::OkStatus();
  }
  if (!prompt.is_array() || prompt.empty()) {
    return Invalid(name,
                   absl::StrCat("is ", Shown(value), ", not a string or an array of token ids"));
  }
  ASSIGN_OR_RETURN(out->prompt, ReadIds(name, prompt));
  return absl::OkStatus();
}

}  // namespace pregate::gateway::openai

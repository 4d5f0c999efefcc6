#include "gateway_service/core/anthropic_request.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_field.h"

namespace pregate::gateway::anthropic {
namespace {

using json = Json;

using enum Treatment;

// Of messages, in which `system` may come before or after them.
Conversation& MessagesOf(Generation* out) {
  if (!std::holds_alternative<Conversation>(out->prompt)) out->prompt = Conversation();
  return std::get<Conversation>(out->prompt);
}

absl::Status ReadTemperature(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(const double read, ReadNumber(name, value, 0, 1));
  out->sampling.temperature = static_cast<float>(read);
  return absl::OkStatus();
}

absl::Status ReadSystem(absl::string_view name, const json& value, Generation* out) {
  ASSIGN_OR_RETURN(std::string text, ReadTextContent(name, value));
  Conversation& messages = MessagesOf(out);
  messages.insert(messages.begin(), {.role = "system", .content = std::move(text)});
  return absl::OkStatus();
}

absl::Status ReadMessages(absl::string_view name, const json& value, Generation* out) {
  if (!value.is_array() || value.empty() || value.size() > static_cast<size_t>(kChatMessagesMax)) {
    return Invalid(name, absl::StrCat("is ", Shown(value), ", not an array of 1 to ",
                                      kChatMessagesMax, " messages"));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string place = absl::StrCat(name, "[", i, "]");
    if (!value[i].is_object()) {
      return Invalid(place, absl::StrCat("is ", Shown(value[i]), ", not an object"));
    }
    for (const auto& [key, member] : value[i].items()) {
      if (key != "role" && key != "content") return UnknownField(absl::StrCat(place, ".", key));
    }
    const json role = value[i].value("role", json());
    if (role != "user" && role != "assistant") {
      return Invalid(absl::StrCat(place, ".role"),
                     absl::StrCat("is ", Shown(role), ", not user or assistant"));
    }
    ASSIGN_OR_RETURN(std::string text, ReadTextContent(absl::StrCat(place, ".content"),
                                                       value[i].value("content", json())));
    MessagesOf(out).push_back({.role = role.get<std::string>(), .content = std::move(text)});
  }
  return absl::OkStatus();
}

constexpr RequestField kFields[] = {
    {"model", kHonoured, ReadModelName},
    {"messages", kHonoured, ReadMessages},
    {"system", kHonoured, ReadSystem},
    {"max_tokens", kHonoured, ReadMaxTokens},
    {"stream", kHonoured, ReadStream},
    {"stop_sequences", kHonoured, ReadStopStrings},
    {"temperature", kHonoured, ReadTemperature},
    {"top_p", kHonoured, ReadTopP},
    {"top_k", kHonoured, ReadTopK},
    {"pregate", kHonoured, ReadPregate},
    {"metadata", kIgnored, nullptr},
    {"service_tier", kIgnored, nullptr},
    {"speed", kIgnored, nullptr},
    {"diagnostics", kIgnored, nullptr},
    {"user_profile_id", kIgnored, nullptr},
    {"workspace_id", kIgnored, nullptr},
    {"cache_control", kIgnored, nullptr},
    {"container", kRefused, OnlyNull},
    {"context_management", kRefused, OnlyNull},
    {"inference_geo", kRefused, OnlyNull},
    {"mcp_servers", kRefused, OnlyEmpty},
    {"output_config", kRefused, OnlyEmpty},
    {"output_format", kRefused, OnlyNull},
    {"thinking", kRefused,
     [](absl::string_view name, const json& value, Generation*) -> absl::Status {
       if (value.is_object() && value.value("type", json()) == "disabled") return absl::OkStatus();
       return Unsupported(name, R"(is on: only {"type": "disabled"} is supported)");
     }},
    {"tool_choice", kRefused, OnlyNull},
    {"tools", kRefused, OnlyEmpty},
};

}  // namespace

absl::StatusOr<Generation> ReadRequest(const json& body) {
  if (!body.is_object()) return absl::InvalidArgumentError("the body is no JSON object");
  Generation out;
  out.sampling.temperature = 1;  // Anthropic's default
  RETURN_IF_ERROR(ReadFields(body, kFields, &out));
  for (const char* required : {"messages", "max_tokens"}) {
    if (!body.contains(required) || body[required].is_null())
      return Invalid(required, "is missing");
  }
  // The template would close the message and open another: the answer would not go on with it.
  if (MessagesOf(&out).back().role == "assistant") {
    return Unsupported("messages",
                       "ends with an assistant's message: to go on with it is not supported");
  }
  return out;
}

absl::Span<const RequestField> Fields() { return kFields; }

}  // namespace pregate::gateway::anthropic

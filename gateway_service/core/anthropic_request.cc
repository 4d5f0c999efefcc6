#include "gateway_service/core/anthropic_request.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/request_limits.h"
#include "common/base/status.h"
#include "gateway_service/core/api_error.h"
#include "gateway_service/core/json_field.h"
#include "gateway_service/core/tools.h"

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

absl::Status NeedObject(const std::string& place, const json& value) {
  if (value.is_object()) return absl::OkStatus();
  return Invalid(place, absl::StrCat("is ", Shown(value), ", not an object"));
}

// What the assistant called.
absl::StatusOr<ToolCall> ReadToolUse(const std::string& place, const json& block) {
  RETURN_IF_ERROR(
      CheckMembers(place, block, {"type", "id", "name", "input", "cache_control", "caller"}));
  ToolCall call;
  ASSIGN_OR_RETURN(call.id, ReadString(place + ".id", block.value("id", json())));
  ASSIGN_OR_RETURN(call.name, ReadString(place + ".name", block.value("name", json())));
  const json input = block.value("input", json());
  RETURN_IF_ERROR(NeedObject(place + ".input", input));
  call.arguments = input.dump(-1, ' ', false, json::error_handler_t::replace);
  return call;
}

// What a tool answered: a message of its own.
absl::StatusOr<Message> ReadToolResult(const std::string& place, const json& block) {
  RETURN_IF_ERROR(
      CheckMembers(place, block, {"type", "tool_use_id", "content", "is_error", "cache_control"}));
  Message message = {.role = "tool"};
  ASSIGN_OR_RETURN(message.tool_call_id,
                   ReadString(place + ".tool_use_id", block.value("tool_use_id", json())));
  const json content = block.value("content", json(""));
  ASSIGN_OR_RETURN(message.content, ReadTextContent(place + ".content", content));
  const json is_error = block.value("is_error", json(false));
  ASSIGN_OR_RETURN(const bool failed, ReadBool(place + ".is_error", is_error));
  if (failed) message.content = absl::StrCat("Error: ", message.content);
  return message;
}

// One message of Anthropic's may be several of a template's: what tools answered stands in a user's.
absl::Status ReadBlocks(const std::string& place, const std::string& role, const json& content,
                        Conversation* out) {
  Message message = {.role = role};
  bool has_text = false;
  if (!content.is_array()) {
    ASSIGN_OR_RETURN(message.content, ReadTextContent(place, content));
    out->push_back(std::move(message));
    return absl::OkStatus();
  }
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string at = absl::StrCat(place, "[", i, "]");
    RETURN_IF_ERROR(NeedObject(at, content[i]));
    const json type = content[i].value("type", json());
    if (type == "tool_use" && role == "assistant") {
      ASSIGN_OR_RETURN(ToolCall call, ReadToolUse(at, content[i]));
      message.tool_calls.push_back(std::move(call));
    } else if (type == "tool_result" && role == "user") {
      ASSIGN_OR_RETURN(Message result, ReadToolResult(at, content[i]));
      out->push_back(std::move(result));
    } else if (type == "text") {
      ASSIGN_OR_RETURN(const std::string text,
                       ReadString(at + ".text", content[i].value("text", json())));
      message.content += text;
      has_text = true;
    } else {
      return Unsupported(at + ".type",
                         absl::StrCat("is ", Shown(type), ": a ", role, "'s message has text and ",
                                      role == "user" ? "tool_result" : "tool_use", " here"));
    }
  }
  if (message.tool_calls.size() > static_cast<size_t>(kToolsMax)) {
    return Invalid(
        place, absl::StrCat("has ", message.tool_calls.size(), " calls, not at most ", kToolsMax));
  }
  const bool is_empty = !has_text && message.tool_calls.empty();
  if (!is_empty || content.empty()) out->push_back(std::move(message));
  return absl::OkStatus();
}

absl::Status ReadTools(absl::string_view name, const json& value, Generation* out) {
  if (!value.is_array() || value.size() > static_cast<size_t>(kToolsMax)) {
    return Invalid(
        name, absl::StrCat("is ", Shown(value), ", not an array of at most ", kToolsMax, " tools"));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    const std::string at = absl::StrCat(name, "[", i, "]");
    RETURN_IF_ERROR(NeedObject(at, value[i]));
    const json type = value[i].value("type", json("custom"));
    if (type != "custom") {
      return Unsupported(at + ".type",
                         absl::StrCat("is ", Shown(type), ": only \"custom\" is supported"));
    }
    RETURN_IF_ERROR(CheckMembers(
        at, value[i], {"type", "name", "description", "input_schema", "strict", "cache_control"}));
    ASSIGN_OR_RETURN(Tool tool, MakeTool(at, value[i].value("name", json()),
                                         value[i].value("description", json()),
                                         value[i].value("input_schema", json())));
    ASSIGN_OR_RETURN(tool.strict, ReadBool(at + ".strict", value[i].value("strict", json(false))));
    out->tools.push_back(std::move(tool));
  }
  return absl::OkStatus();
}

absl::Status ReadToolChoice(absl::string_view name, const json& value, Generation* out) {
  const std::string place(name);
  RETURN_IF_ERROR(NeedObject(place, value));
  RETURN_IF_ERROR(CheckMembers(place, value, {"type", "name", "disable_parallel_tool_use"}));
  const json type = value.value("type", json());
  if (type == "tool") {
    ASSIGN_OR_RETURN(out->tool_name, ReadString(place + ".name", value.value("name", json())));
  } else if (type != "auto" && type != "any" && type != "none") {
    return Invalid(place + ".type",
                   absl::StrCat("is ", Shown(type), ", not auto, any, tool or none"));
  }
  if (type == "none") out->tool_use = ToolUse::kNone;
  if (type == "any" || type == "tool") out->tool_use = ToolUse::kRequired;
  ASSIGN_OR_RETURN(const bool one, ReadBool(place + ".disable_parallel_tool_use",
                                            value.value("disable_parallel_tool_use", json(false))));
  out->parallel_tool_calls = !one;
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
    RETURN_IF_ERROR(ReadBlocks(absl::StrCat(place, ".content"), role.get<std::string>(),
                               value[i].value("content", json()), &MessagesOf(out)));
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
    {"tool_choice", kHonoured, ReadToolChoice},
    {"tools", kHonoured, ReadTools},
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
  RETURN_IF_ERROR(CheckTools(&out));
  return out;
}

absl::Span<const RequestField> Fields() { return kFields; }

}  // namespace pregate::gateway::anthropic

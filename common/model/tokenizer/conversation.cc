#include "common/model/tokenizer/conversation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/json.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/base/text.h"

namespace pregate {
namespace {

// Parameters of apply_chat_template that are no variables of a template.
constexpr std::string_view kNoOptions[] = {"chat_template",    "continue_final_message",
                                           "tokenize",         "padding",
                                           "truncation",       "max_length",
                                           "return_tensors",   "return_dict",
                                           "tokenizer_kwargs", "return_assistant_tokens_mask"};

// One that says nothing else is why a list of objects is bad.
absl::Status CheckObjects(const OrderedJson& list, const std::string& where) {
  if (list.is_null()) return absl::OkStatus();
  if (!list.is_array()) return absl::InvalidArgumentError(absl::StrCat(where, " is no list"));
  for (size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(where, "[", i, "] is no object"));
    }
  }
  return absl::OkStatus();
}

const OrderedJson* MemberOf(const OrderedJson& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::Status CheckPart(const OrderedJson& part, const std::string& where) {
  const OrderedJson* const type = MemberOf(part, "type");
  if (type == nullptr || !type->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ".type is no string"));
  }
  const std::string& name = type->get_ref<const std::string&>();
  if (name != "text") {
    return absl::UnimplementedError(absl::StrCat(
        where, ".type is \"", absl::CHexEscape(name.substr(0, 64)), "\", only text is supported"));
  }
  const OrderedJson* const text = MemberOf(part, "text");
  if (text != nullptr && text->is_string()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ".text is no string"));
}

absl::Status CheckContent(const OrderedJson& content, const std::string& where) {
  if (content.is_string()) return absl::OkStatus();
  if (!content.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(where, " is neither text nor a list of parts"));
  }
  RETURN_IF_ERROR(CheckObjects(content, where));
  for (size_t i = 0; i < content.size(); ++i) {
    RETURN_IF_ERROR(CheckPart(content[i], absl::StrCat(where, "[", i, "]")));
  }
  return absl::OkStatus();
}

absl::Status CheckMessage(const OrderedJson& message, const std::string& where) {
  const OrderedJson* const role = MemberOf(message, "role");
  if (role == nullptr || !role->is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ".role is no string"));
  }
  if (const OrderedJson* content = MemberOf(message, "content")) {
    RETURN_IF_ERROR(CheckContent(*content, where + ".content"));
  }
  if (const OrderedJson* calls = MemberOf(message, "tool_calls")) {
    RETURN_IF_ERROR(CheckObjects(*calls, where + ".tool_calls"));
  }
  return absl::OkStatus();
}

absl::Status AddOption(const std::string& name, const OrderedJson& value, const std::string& where,
                       Conversation* out) {
  if (std::find(std::begin(kNoOptions), std::end(kNoOptions), name) != std::end(kNoOptions)) {
    return absl::UnimplementedError(absl::StrCat(where, ": \"", name, "\" is not supported"));
  }
  if (name == "messages") {
    out->messages = value;
  } else if (name == "tools") {
    out->tools = value;
  } else if (name == "documents") {
    out->documents = value;
  } else if (name != "add_generation_prompt") {
    out->options[name] = value;
  } else if (value.is_boolean()) {
    out->add_generation_prompt = value.get<bool>();
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": \"add_generation_prompt\" is neither true nor false"));
  }
  return absl::OkStatus();
}

absl::Status ReadMembers(const OrderedJson& object, const std::string& where, Conversation* out) {
  for (const auto& [name, value] : object.items()) {
    if (name != "chat_template_kwargs") {
      RETURN_IF_ERROR(AddOption(name, value, where, out));
      continue;
    }
    if (!value.is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": \"", name, "\" is no object"));
    }
    for (const auto& [option, of_option] : value.items()) {
      RETURN_IF_ERROR(AddOption(option, of_option, where, out));
    }
  }
  return absl::OkStatus();
}

// Typed parts as one text, a line for each.
std::string FlatText(const OrderedJson& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += "\n";
    text += parts[i]["text"].get_ref<const std::string&>();
  }
  return text;
}

OrderedJson WithReasoning(OrderedJson message) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const OrderedJson* const found = MemberOf(message, name);
    if (found == nullptr) continue;
    const OrderedJson reasoning = *found;
    OrderedJson out = OrderedJson::object();
    out["thinking"] = reasoning;
    for (const auto& [key, value] : message.items()) out[key] = value;
    out["reasoning_content"] = reasoning;
    return out;
  }
  return message;
}

}  // namespace

Conversation MakeConversation(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                              absl::Time now) {
  Conversation out;
  for (const ChatMessage& message : messages) {
    out.messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  out.add_generation_prompt = add_generation_prompt;
  out.now = now;
  return out;
}

absl::StatusOr<Conversation> ParseConversation(std::string_view text, const std::string& where,
                                               absl::Time now) {
  if (text.size() > kConversationBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": ", text.size(), " bytes, at most ", kConversationBytesMax));
  }
  RETURN_IF_ERROR(ParseJson(text, where).status());  // which bounds its depth
  ASSIGN_OR_RETURN(text, TextOf(text, where));
  const OrderedJson parsed = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
  Conversation out;
  out.now = now;
  if (parsed.is_array()) {
    out.messages = parsed;
  } else if (parsed.is_object()) {
    RETURN_IF_ERROR(ReadMembers(parsed, where, &out));
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": neither a list of messages nor an object that holds one"));
  }
  const absl::Status status = CheckConversation(out);
  if (status.ok()) return out;
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

absl::Status CheckConversation(const Conversation& conversation) {
  RETURN_IF_ERROR(CheckObjects(conversation.messages, "messages"));
  const size_t count = conversation.messages.size();
  if (count == 0) return absl::InvalidArgumentError("messages: there are none");
  if (count > kChatMessagesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("messages: ", count, ", at most ", kChatMessagesMax));
  }
  for (size_t i = 0; i < count; ++i) {
    RETURN_IF_ERROR(CheckMessage(conversation.messages[i], absl::StrCat("messages[", i, "]")));
  }
  RETURN_IF_ERROR(CheckObjects(conversation.tools, "tools"));
  return CheckObjects(conversation.documents, "documents");
}

OrderedJson MessagesForTemplates(const OrderedJson& messages, bool flat) {
  OrderedJson out = OrderedJson::array();
  for (const OrderedJson& message : messages) {
    OrderedJson members = OrderedJson::object();
    for (const auto& [key, value] : message.items()) {
      if (value.is_null()) continue;
      const bool flattens = flat && key == "content" && value.is_array();
      members[key] = flattens ? OrderedJson(FlatText(value)) : value;
    }
    out.push_back(WithReasoning(std::move(members)));
  }
  return out;
}

}  // namespace pregate

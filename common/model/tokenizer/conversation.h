// What a chat template lays out: messages, tools and the variables of a caller, as JSON.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace pregate {

// Keys stay in the order in which they came: templates print them.
using OrderedJson = nlohmann::ordered_json;

// As transformers' apply_chat_template takes it. All strings are the caller's.
struct Conversation {
  OrderedJson messages = OrderedJson::array();  // {"role", "content", ...}
  OrderedJson tools, documents;                 // lists of objects; null: there are none
  OrderedJson options = OrderedJson::object();  // further variables: {"enable_thinking": false}
  bool add_generation_prompt = true;
  absl::Time now;  // for templates that print the date, which is UTC's
};

Conversation MakeConversation(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                              absl::Time now);

// A list of messages, or {"messages": [...], "tools": [...], "documents": [...],
// "add_generation_prompt": BOOL, further variables ...}; those of "chat_template_kwargs" count as if
// they stood beside it. `where` names the text in errors.
absl::StatusOr<Conversation> ParseConversation(std::string_view text, const std::string& where,
                                               absl::Time now);

// Names what is not as templates expect it: no messages or too many, a role that is no string, a
// content that is neither text nor typed parts of text, tools that are no objects.
absl::Status CheckConversation(const Conversation& conversation);

// The messages as transformers gives them to templates: members that are null are gone, and
// reasoning is found under each of its names. `flat`: of a content in parts, the lines of their text.
OrderedJson MessagesForTemplates(const OrderedJson& messages, bool flat);

}  // namespace pregate

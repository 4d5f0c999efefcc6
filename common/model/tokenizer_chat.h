// Chat templates, recognised by content and applied natively: no Jinja runs on a server's input.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/model/tokenizer.h"

namespace pregate {

// ChatML: each message is <|im_start|>ROLE\nCONTENT<|im_end|>\n, and a generation prompt is
// <|im_start|>assistant\n.
struct ChatMl {
  // Stands as a system message before conversations that do not begin with one.
  std::optional<std::string> default_system;
};

// Nothing where the template does anything but that. White space inside Jinja's tags does not
// matter, and neither does whether a line end in a string is escaped.
std::optional<ChatMl> ParseChatMl(std::string_view chat_template);

// InvalidArgument, naming the message, for no messages or a role that is not system, user or
// assistant.
absl::Status CheckMessages(absl::Span<const ChatMessage> messages);

// FailedPrecondition without a template, otherwise Unimplemented: its beginning and its SHA-256.
absl::Status UnknownChatTemplate(std::string_view chat_template);

}  // namespace pregate

// ChatML among Jinja templates: recognised by what a template does, however it is written.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pregate {

// Each message is <|im_start|>ROLE\nCONTENT<|im_end|>\n, and a generation prompt is
// <|im_start|>assistant\n.
struct ChatMl {
  // Stands as a system message before conversations that do not begin with one.
  std::optional<std::string> default_system;
};

// Nothing where the template does anything but that. The source is read as Jinja reads it in
// transformers (trim_blocks and lstrip_blocks on, keep_trailing_newline off): spaces inside tags,
// trim markers, line ends of either kind, quotes, message.role or message['role'], + or ~, and
// comments do not matter.
std::optional<ChatMl> ParseChatMl(std::string_view chat_template);

}  // namespace pregate

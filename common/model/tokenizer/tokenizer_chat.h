// Chat templates, recognised by content and applied natively: no Jinja runs on a server's input.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// A Jinja template as a list of what it prints and of its tags. No Jinja is evaluated.

struct JinjaPart {
  enum class Kind {
    kText,   // printed as it is; never two in a row
    kValue,  // a variable that is printed: "message.role"
    kTag,    // the words of a {% tag %}, each a blank apart: "for message in messages"
  };
  Kind kind;
  std::string text;

  bool operator==(const JinjaPart&) const = default;
};

// White space and line ends are dropped as Jinja does with trim_blocks and lstrip_blocks on and
// keep_trailing_newline off. In tags, x['name'] and x["name"] are x.name and string literals stand
// in single quotes. Nothing where a tag is not closed, or where {{ }} holds more than literals and
// variables joined by + or ~.
std::optional<std::vector<JinjaPart>> ParseJinjaParts(std::string_view source);

// ChatML among Jinja templates: recognised by what a template does, however it is written.

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

// The template of one model. Immutable; thread-safe.
class ChatTemplate {
 public:
  explicit ChatTemplate(std::string source);

  // Tokenizer::ApplyChatTemplate for `tokenizer`.
  absl::StatusOr<std::vector<TokenId>> Apply(const Tokenizer& tokenizer,
                                             absl::Span<const ChatMessage> messages,
                                             bool add_generation_prompt) const;

 private:
  const std::string source_;
  const std::optional<ChatMl> chat_ml_;
};

// `eos` and the special tokens that end a turn or a text in the families of models known here.
std::vector<TokenId> FindStopTokens(const Tokenizer& tokenizer, std::optional<TokenId> eos);

}  // namespace pregate

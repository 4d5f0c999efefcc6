// Chat templates, recognised by content and applied natively: no Jinja runs on a server's input.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
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

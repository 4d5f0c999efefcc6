// Chat templates, recognised by content and applied natively: no Jinja runs on a server's input.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/chat_ml.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

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

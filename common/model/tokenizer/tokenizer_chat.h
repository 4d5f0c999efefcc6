// Chat templates: the Jinja of a model lays out a conversation, and what comes of it becomes ids.
// Text of messages, tools and options never becomes a special token, wherever a template puts it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/tokenizer/conversation.h"
#include "common/model/tokenizer/jinja/ast.h"
#include "common/model/tokenizer/marked_text.h"
#include "common/model/tokenizer/tokenizer.h"

namespace pregate {

// The templates of one model. Immutable; thread-safe.
class ChatTemplates {
 public:
  // `named` is by name: "default", and "tool_use" for conversations that name tools. `tokens` are
  // variables of the templates that stand for special tokens: {"bos_token": "<s>"}. A template that
  // cannot be read is refused when it is used.
  ChatTemplates(std::map<std::string, std::string> named,
                std::map<std::string, std::string> tokens);
  // Of a tokenizer's spec.
  ChatTemplates(const std::string& default_template, const ChatVariables& variables,
                const std::string& bos, const std::string& eos);

  // The text, with what of it is the template's. InvalidArgument for a conversation that is not
  // well-formed or that the template refuses, in the template's words; FailedPrecondition where the
  // model has no template; Unimplemented names what of the template is not supported, and its line.
  absl::StatusOr<MarkedText> Render(const Conversation& conversation) const;
  // Tokenizer::ApplyConversation for `tokenizer`.
  absl::StatusOr<std::vector<TokenId>> Apply(const Tokenizer& tokenizer,
                                             const Conversation& conversation) const;

 private:
  struct Parsed {
    absl::StatusOr<jinja::Template> parsed;
    std::string about;  // for errors: beginning, size and digest
  };
  absl::StatusOr<const Parsed*> Choose(const Conversation& conversation) const;

  std::map<std::string, Parsed> templates_;
  const std::map<std::string, std::string> tokens_;
};

// `text` as ids: special tokens where all of their bytes are the template's, and what lies between
// two of them as one text. InvalidArgument where text would become one nevertheless.
absl::StatusOr<std::vector<TokenId>> EncodeMarked(const Tokenizer& tokenizer,
                                                  const MarkedText& text);

// For ChatMessage: InvalidArgument names the message whose role is not system, user or assistant.
absl::Status CheckRoles(absl::Span<const ChatMessage> messages);

// `eos` and the special tokens that end a turn or a text in the families of models known here.
std::vector<TokenId> FindStopTokens(const Tokenizer& tokenizer, std::optional<TokenId> eos);

}  // namespace pregate

#include "common/model/tokenizer/tokenizer_chat.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/base/sha256.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr const char* kTurnStart = "<|im_start|>";
constexpr const char* kTurnEnd = "<|im_end|>";
constexpr const char* kStopTexts[] = {kTurnEnd, "<|endoftext|>", "<|eot_id|>", "<|eom_id|>",
                                      "<|end_of_text|>"};

// Names the message: there are none, or a role is not system, user or assistant.
absl::Status CheckMessages(absl::Span<const ChatMessage> messages) {
  if (messages.empty()) return absl::InvalidArgumentError("messages: there are none");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if (role == "system" || role == "user" || role == "assistant") continue;
    return absl::InvalidArgumentError(absl::StrCat("messages[", i, "].role is \"",
                                                   absl::CHexEscape(role.substr(0, 64)),
                                                   "\", expected system, user or assistant"));
  }
  return absl::OkStatus();
}

// FailedPrecondition without a template, otherwise Unimplemented: its beginning and its SHA-256.
absl::Status UnknownChatTemplate(std::string_view chat_template) {
  if (chat_template.empty()) {
    return absl::FailedPreconditionError("the model has no chat template, or no default one");
  }
  return absl::UnimplementedError(absl::StrCat(
      "the model's chat template \"", absl::CHexEscape(std::string(chat_template.substr(0, 64))),
      "\"... (", chat_template.size(), " bytes, SHA-256 ", Sha256Hex(chat_template).substr(0, 16),
      "...) is not supported (ChatML is)"));
}

void AppendEncoded(const Tokenizer& tokenizer, std::string_view text, std::vector<TokenId>* ids) {
  const std::vector<TokenId> more = tokenizer.Encode(text);
  ids->insert(ids->end(), more.begin(), more.end());
}

absl::StatusOr<std::vector<TokenId>> ApplyChatMl(const ChatMl& chat, const Tokenizer& tokenizer,
                                                 absl::Span<const ChatMessage> messages,
                                                 bool add_generation_prompt) {
  const auto start = tokenizer.SpecialId(kTurnStart), end = tokenizer.SpecialId(kTurnEnd);
  if (!start || !end) {
    return absl::FailedPreconditionError(
        absl::StrCat("the chat template needs the special tokens ", kTurnStart, " and ", kTurnEnd));
  }
  RETURN_IF_ERROR(CheckMessages(messages));
  std::vector<TokenId> ids;
  // False: the content ends the turn, or begins one. A vocabulary may hold the markers as ordinary
  // tokens.
  const auto append_turn = [&](const std::string& role, const std::string& content) {
    ids.push_back(*start);
    const size_t begin = ids.size();
    AppendEncoded(tokenizer, absl::StrCat(role, "\n", content), &ids);
    const bool is_one_turn = std::none_of(ids.begin() + begin, ids.end(),
                                          [&](TokenId id) { return id == *start || id == *end; });
    ids.push_back(*end);
    AppendEncoded(tokenizer, "\n", &ids);
    return is_one_turn;
  };
  if (chat.default_system && messages[0].role != "system") {
    append_turn("system", *chat.default_system);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    if (append_turn(messages[i].role, messages[i].content)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("messages[", i, "].content becomes a token that begins or ends turns"));
  }
  if (add_generation_prompt) {
    ids.push_back(*start);
    AppendEncoded(tokenizer, "assistant\n", &ids);
  }
  return ids;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source)
    : source_(std::move(source)), chat_ml_(ParseChatMl(source_)) {}

absl::StatusOr<std::vector<TokenId>> ChatTemplate::Apply(const Tokenizer& tokenizer,
                                                         absl::Span<const ChatMessage> messages,
                                                         bool add_generation_prompt) const {
  if (chat_ml_) return ApplyChatMl(*chat_ml_, tokenizer, messages, add_generation_prompt);
  return UnknownChatTemplate(source_);
}

std::vector<TokenId> FindStopTokens(const Tokenizer& tokenizer, std::optional<TokenId> eos) {
  std::vector<TokenId> stops;
  if (eos) stops.push_back(*eos);
  for (const char* text : kStopTexts) {
    const auto id = tokenizer.SpecialId(text);
    if (id && id != eos) stops.push_back(*id);
  }
  return stops;
}

}  // namespace pregate

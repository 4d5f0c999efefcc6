#include "common/model/tokenizer_chat.h"

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

// The parts of ChatML's template in the normal form of Normalise.
constexpr std::string_view kLoop = "{%formessageinmessages%}";
constexpr std::string_view kDefaultSystemBegin =
    "{%ifloop.firstandmessages[0]['role']!='system'%}{{'<|im_start|>system\n";
constexpr std::string_view kDefaultSystemEnd = "<|im_end|>\n'}}{%endif%}";
constexpr std::string_view kTurn =
    "{{'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>'+'\n'}}{%endfor%}"
    "{%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}}{%endif%}";

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Without white space inside Jinja's tags, but for string literals, whose \n is resolved. What
// stands between tags is output and stays.
std::string Normalise(std::string_view source) {
  std::string out;
  bool in_tag = false, in_string = false;
  for (size_t i = 0; i < source.size(); ++i) {
    const std::string_view pair = source.substr(i, 2);
    if (in_string && pair == "\\n") {
      out.push_back('\n');
      ++i;
      continue;
    }
    if (in_tag && source[i] == '\'') in_string = !in_string;
    if (!in_string && (pair == "{{" || pair == "{%")) in_tag = true;
    if (!in_string && (pair == "}}" || pair == "%}")) in_tag = false;
    if (in_string || !in_tag || !IsSpace(source[i])) out.push_back(source[i]);
  }
  return out;
}

// Takes `prefix` and `suffix` off; false where `text` is not between them.
bool Unwrap(std::string_view prefix, std::string_view suffix, std::string_view* text) {
  if (!text->starts_with(prefix) || !text->ends_with(suffix) ||
      text->size() < prefix.size() + suffix.size()) {
    return false;
  }
  *text = text->substr(prefix.size(), text->size() - prefix.size() - suffix.size());
  return true;
}

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
    return absl::FailedPreconditionError("the model's tokenizer has no chat template");
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
  const auto append_turn = [&](const std::string& role, const std::string& content) {
    ids.push_back(*start);
    AppendEncoded(tokenizer, absl::StrCat(role, "\n", content), &ids);
    ids.push_back(*end);
    AppendEncoded(tokenizer, "\n", &ids);
  };
  if (chat.default_system && messages[0].role != "system") {
    append_turn("system", *chat.default_system);
  }
  for (const ChatMessage& message : messages) append_turn(message.role, message.content);
  if (add_generation_prompt) {
    ids.push_back(*start);
    AppendEncoded(tokenizer, "assistant\n", &ids);
  }
  return ids;
}

}  // namespace

std::optional<ChatMl> ParseChatMl(std::string_view chat_template) {
  const std::string normal = Normalise(chat_template);
  std::string_view rest = normal;
  ChatMl chat;
  if (!Unwrap(kLoop, kTurn, &rest)) return std::nullopt;
  if (rest.empty()) return chat;
  if (!Unwrap(kDefaultSystemBegin, kDefaultSystemEnd, &rest) ||
      rest.find_first_of("'\\") != std::string_view::npos ||
      rest.find("<|") != std::string_view::npos) {
    return std::nullopt;
  }
  chat.default_system = std::string(rest);
  return chat;
}

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

#include "common/model/tokenizer/tokenizer_chat.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/types/span.h"
#include "common/base/hash.h"
#include "common/base/status.h"

namespace pregate {

namespace {

using Kind = JinjaPart::Kind;

constexpr std::string_view kJinjaSpaces = " \t\n\v\f\r";

// A word of a tag: a name, a number, a string literal or a sign.
struct JinjaWord {
  std::string text;
  bool is_literal = false;
};

bool IsNameByte(char c) { return absl::ascii_isalnum(c) || c == '_'; }

bool IsName(const JinjaWord& word) {
  return !word.is_literal && !word.text.empty() && IsNameByte(word.text[0]);
}

bool IsSign(const JinjaWord& word, std::string_view sign) {
  return !word.is_literal && word.text == sign;
}

// LF for CRLF and CR, and without one line end at the end.
std::string WithPlainLineEnds(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    const bool is_return = source[i] == '\r';
    if (is_return && source.substr(i + 1).starts_with('\n')) continue;
    out.push_back(is_return ? '\n' : source[i]);
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

std::string_view StripLeft(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kJinjaSpaces), text.size()));
}

std::string_view StripRight(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kJinjaSpaces) + 1);
}

class JinjaParser {
 public:
  explicit JinjaParser(std::string_view source) : rest_(source) {}

  std::optional<std::vector<JinjaPart>> Parse() {
    while (true) {
      const size_t begin = FindTag();
      std::string_view text = rest_.substr(0, begin);
      rest_.remove_prefix(text.size());
      if (rest_.empty()) {
        Print(text);
        return std::move(parts_);
      }
      Print(BeforeTag(text));
      if (!ReadTag()) return std::nullopt;
    }
  }

 private:
  size_t FindTag() const {
    size_t at = rest_.find('{');
    while (at != std::string_view::npos) {
      const std::string_view next = rest_.substr(at + 1, 1);
      if (next == "{" || next == "%" || next == "#") return at;
      at = rest_.find('{', at + 1);
    }
    return at;
  }

  // `text` without the white space that the tag behind it takes off.
  std::string_view BeforeTag(std::string_view text) const {
    const std::string_view sign = rest_.substr(2, 1);
    if (sign == "-") return StripRight(text);
    if (sign == "+" || rest_[1] == '{') return text;
    const size_t line = text.rfind('\n') + 1;  // 0 where there is no line end
    const bool alone = (line > 0 || line_begins_) && StripLeft(text.substr(line)).empty();
    return alone ? text.substr(0, line) : text;
  }

  bool ReadTag() {
    const char opening = rest_[1];
    rest_.remove_prefix(2);
    if (opening == '#') {
      const size_t end = rest_.find("#}");
      if (end == std::string_view::npos) return false;
      const char sign = end > 0 ? rest_[end - 1] : ' ';
      rest_.remove_prefix(end + 2);
      AfterTag(sign, true);
      return true;
    }
    if (rest_.starts_with('-') || rest_.starts_with('+')) rest_.remove_prefix(1);
    std::vector<JinjaWord> words;
    char sign = ' ';
    if (!ReadWords(opening == '{' ? "}}" : "%}", &words, &sign)) return false;
    const bool is_block = opening == '%';
    AfterTag(sign, is_block);
    if (!is_block) return PrintExpression(words);
    parts_.push_back({Kind::kTag, Joined(words)});
    return true;
  }

  // Takes off what a tag's end takes off behind it: all white space, or a block's line end.
  void AfterTag(char sign, bool is_block) {
    const std::string_view before = rest_;
    if (sign == '-') {
      rest_ = StripLeft(rest_);
    } else if (is_block && sign != '+' && rest_.starts_with('\n')) {
      rest_.remove_prefix(1);
    }
    line_begins_ = before.substr(0, before.size() - rest_.size()).ends_with('\n');
  }

  // Up to `closing` and over it; `sign` is the trim marker before it.
  bool ReadWords(std::string_view closing, std::vector<JinjaWord>* words, char* sign) {
    while (true) {
      rest_ = StripLeft(rest_);
      if (rest_.empty()) return false;
      const bool marked = rest_[0] == '-' || rest_[0] == '+';
      if (rest_.substr(marked).starts_with(closing)) {
        if (marked) *sign = rest_[0];
        rest_.remove_prefix(marked + closing.size());
        return true;
      }
      if (!ReadWord(words)) return false;
    }
  }

  bool ReadWord(std::vector<JinjaWord>* words) {
    if (rest_[0] == '\'' || rest_[0] == '"') return ReadLiteral(words);
    size_t size = 0;
    while (size < rest_.size() && IsNameByte(rest_[size])) ++size;
    const std::string_view pair = rest_.substr(0, 2);
    if (pair == "==" || pair == "!=" || pair == "<=" || pair == ">=") size = 2;
    if (size == 0) size = 1;
    words->push_back({std::string(rest_.substr(0, size))});
    rest_.remove_prefix(size);
    return true;
  }

  bool ReadLiteral(std::vector<JinjaWord>* words) {
    const char quote = rest_[0];
    std::string text;
    for (size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == quote) {
        rest_.remove_prefix(i + 1);
        words->push_back({std::move(text), true});
        return true;
      }
      if (rest_[i] != '\\') {
        text.push_back(rest_[i]);
      } else if (!AppendEscaped(rest_.substr(++i, 1), &text)) {
        return false;
      }
    }
    return false;
  }

  static bool AppendEscaped(std::string_view escaped, std::string* text) {
    constexpr std::string_view kNames = "nrt\\'\"", kMeanings = "\n\r\t\\'\"";
    const size_t at = escaped.empty() ? std::string_view::npos : kNames.find(escaped);
    if (at == std::string_view::npos) return false;
    text->push_back(kMeanings[at]);
    return true;
  }

  // The variable that begins at words[*at]; empty where none does.
  static std::string TakePath(const std::vector<JinjaWord>& words, size_t* at) {
    if (*at >= words.size() || !IsName(words[*at])) return "";
    std::string path = words[(*at)++].text;
    while (*at + 1 < words.size()) {
      const bool is_dot = IsSign(words[*at], ".") && IsName(words[*at + 1]);
      const bool is_key = IsSign(words[*at], "[") && *at + 2 < words.size() &&
                          IsSign(words[*at + 2], "]") &&
                          (words[*at + 1].is_literal || IsName(words[*at + 1]));
      if (!is_dot && !is_key) break;
      const JinjaWord& key = words[*at + 1];
      path += is_dot || key.is_literal ? "." + key.text : "[" + key.text + "]";
      *at += is_dot ? 2 : 3;
    }
    return path;
  }

  static std::string Joined(const std::vector<JinjaWord>& words) {
    std::string out;
    for (size_t i = 0; i < words.size();) {
      if (!out.empty()) out.push_back(' ');
      const std::string path = TakePath(words, &i);
      if (!path.empty()) {
        out += path;
      } else {
        const JinjaWord& word = words[i++];
        out += word.is_literal ? "'" + word.text + "'" : word.text;
      }
    }
    return out;
  }

  bool PrintExpression(const std::vector<JinjaWord>& words) {
    for (size_t i = 0; i < words.size();) {
      if (words[i].is_literal) {
        Print(words[i++].text);
      } else {
        std::string path = TakePath(words, &i);
        if (path.empty()) return false;
        parts_.push_back({Kind::kValue, std::move(path)});
      }
      if (i == words.size()) return true;
      if (!IsSign(words[i], "+") && !IsSign(words[i], "~")) return false;
      ++i;
    }
    return false;
  }

  void Print(std::string_view text) {
    if (text.empty()) return;
    if (!parts_.empty() && parts_.back().kind == Kind::kText) {
      parts_.back().text += text;
    } else {
      parts_.push_back({Kind::kText, std::string(text)});
    }
  }

  std::string_view rest_;
  std::vector<JinjaPart> parts_;
  bool line_begins_ = true;
};

}  // namespace

std::optional<std::vector<JinjaPart>> ParseJinjaParts(std::string_view source) {
  const std::string plain = WithPlainLineEnds(source);
  return JinjaParser(plain).Parse();
}

namespace {

using Kind = JinjaPart::Kind;
using Parts = absl::Span<const JinjaPart>;

constexpr std::string_view kSystemTurnOpen = "<|im_start|>system\n";
constexpr std::string_view kTurnClose = "<|im_end|>\n";

bool Take(std::initializer_list<JinjaPart> expected, Parts* parts) {
  if (parts->size() < expected.size() ||
      !std::equal(expected.begin(), expected.end(), parts->begin())) {
    return false;
  }
  parts->remove_prefix(expected.size());
  return true;
}

// The default system message, where one is next; false where something else is.
bool TakeDefaultSystem(Parts* parts, std::optional<std::string>* system) {
  if (!Take({{Kind::kTag, "if loop.first and messages[0].role != 'system'"}}, parts)) return true;
  if (parts->empty() || parts->front().kind != Kind::kText) return false;
  std::string_view text = parts->front().text;
  parts->remove_prefix(1);
  if (!text.starts_with(kSystemTurnOpen) || !text.ends_with(kTurnClose) ||
      text.size() < kSystemTurnOpen.size() + kTurnClose.size()) {
    return false;
  }
  text.remove_prefix(kSystemTurnOpen.size());
  text.remove_suffix(kTurnClose.size());
  if (text.find("<|") != std::string_view::npos) return false;
  *system = std::string(text);
  return Take({{Kind::kTag, "endif"}}, parts);
}

}  // namespace

std::optional<ChatMl> ParseChatMl(std::string_view chat_template) {
  const auto parsed = ParseJinjaParts(chat_template);
  if (!parsed) return std::nullopt;
  Parts parts = *parsed;
  ChatMl chat;
  // Where callers do not say, there is no generation prompt; callers here always say.
  Take({{Kind::kTag, "if not add_generation_prompt is defined"},
        {Kind::kTag, "set add_generation_prompt = false"},
        {Kind::kTag, "endif"}},
       &parts);
  const bool is_chat_ml = Take({{Kind::kTag, "for message in messages"}}, &parts) &&
                          TakeDefaultSystem(&parts, &chat.default_system) &&
                          Take({{Kind::kText, "<|im_start|>"},
                                {Kind::kValue, "message.role"},
                                {Kind::kText, "\n"},
                                {Kind::kValue, "message.content"},
                                {Kind::kText, "<|im_end|>\n"},
                                {Kind::kTag, "endfor"},
                                {Kind::kTag, "if add_generation_prompt"},
                                {Kind::kText, "<|im_start|>assistant\n"},
                                {Kind::kTag, "endif"}},
                               &parts) &&
                          parts.empty();
  return is_chat_ml ? std::optional(std::move(chat)) : std::nullopt;
}

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

#include "common/model/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "common/base/status.h"
#include "common/model/tokenizer/jinja/characters.h"

namespace pregate::jinja {
namespace {

using TokenKind = Token::Kind;

constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", "<=", ">=", "+", "-", "/",
                                           "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                           ".",  ":",  ",",  "|",  "=",  ">",  "<", ";"};

bool IsNameByte(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// LF for CRLF and CR, and without one line end at the end.
std::string WithPlainLineEnds(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    const bool is_return = source[i] == '\r';
    if (is_return && source.substr(i + 1).starts_with('\n')) continue;
    out.push_back(is_return ? '\n' : source[i]);
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : rest_(source) {}

  absl::StatusOr<std::vector<Token>> Read() {
    while (!rest_.empty()) {
      const std::string_view text = rest_.substr(0, FindTag());
      if (text.size() == rest_.size()) {
        Print(text);
        Skip(text.size());
      } else {
        Print(BeforeTag(text, rest_.substr(text.size())));
        Skip(text.size());
        RETURN_IF_ERROR(ReadTag());
      }
    }
    Add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::Status Bad(std::string_view what) const {
    return absl::InvalidArgumentError(AtLine(line_, what));
  }

  void Add(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  void Print(std::string_view text) {
    if (!text.empty()) Add(TokenKind::kData, std::string(text));
  }
  void Skip(size_t size) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + size, '\n'));
    rest_.remove_prefix(size);
  }

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
  std::string_view BeforeTag(std::string_view text, std::string_view tag) const {
    const std::string_view sign = tag.substr(2, 1);
    if (sign == "-") return text.substr(0, text.size() - TrailingSpaceBytes(text));
    if (sign == "+" || tag[1] == '{') return text;
    const size_t line = text.rfind('\n') + 1;  // 0 where there is no line end
    const std::string_view indent = text.substr(line);
    const bool alone = (line > 0 || line_begins_) && LeadingSpaceBytes(indent) == indent.size();
    return alone ? text.substr(0, line) : text;
  }

  absl::Status ReadTag() {
    const char opening = rest_[1];
    if (opening == '#') return SkipComment();
    if (opening == '%' && RawTagBytes("raw") > 0) return ReadRaw();
    const bool is_block = opening == '%';
    Add(is_block ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    const std::string_view sign = rest_.substr(2, 1);
    Skip(sign == "-" || sign == "+" ? 3 : 2);
    return ReadWords(is_block);
  }

  absl::Status SkipComment() {
    const size_t end = rest_.find("#}", 2);
    if (end == std::string_view::npos) return Bad("a comment is not closed");
    // The sign of "{#-#}" belongs to its beginning.
    const char sign =
        end > 3 || (end == 3 && rest_[2] != '-' && rest_[2] != '+') ? rest_[end - 1] : ' ';
    Skip(end + 2);
    AfterTag(sign, /*is_block=*/true);
    return absl::OkStatus();
  }

  // Takes off what a tag's end takes off behind it: all white space, or a block's line end.
  void AfterTag(char sign, bool is_block) {
    size_t size = 0;
    if (sign == '-') {
      size = LeadingSpaceBytes(rest_);
    } else if (is_block && sign != '+' && rest_.starts_with('\n')) {
      size = 1;
    }
    line_begins_ = size > 0 && rest_[size - 1] == '\n';
    Skip(size);
  }

  // The bytes of "{%- NAME -%}" where that is next, without what AfterTag takes off; else 0.
  size_t RawTagBytes(std::string_view name) const {
    size_t at = 2;
    if (rest_.substr(at).starts_with('-') || rest_.substr(at).starts_with('+')) ++at;
    at += LeadingSpaceBytes(rest_.substr(at));
    if (!rest_.substr(at).starts_with(name)) return 0;
    at += name.size();
    at += LeadingSpaceBytes(rest_.substr(at));
    if (rest_.substr(at).starts_with('-') || rest_.substr(at).starts_with('+')) ++at;
    return rest_.substr(at).starts_with("%}") ? at + 2 : 0;
  }

  // Only the second one takes off the line end behind it.
  void SkipRawTag(size_t size, bool is_end) {
    const char sign = rest_[size - 3];
    Skip(size);
    AfterTag(sign, is_end);
  }

  absl::Status ReadRaw() {
    const int begin = line_;
    SkipRawTag(RawTagBytes("raw"), /*is_end=*/false);
    const std::string_view all = rest_;
    for (size_t at = all.find("{%"); at != std::string_view::npos; at = all.find("{%", at + 1)) {
      rest_ = all.substr(at);
      const size_t size = RawTagBytes("endraw");
      const std::string_view tag = rest_;
      rest_ = all;
      if (size == 0) continue;
      Print(BeforeTag(all.substr(0, at), tag));
      Skip(at);
      SkipRawTag(size, /*is_end=*/true);
      return absl::OkStatus();
    }
    line_ = begin;
    return Bad("raw is not closed");
  }

  absl::Status ReadWords(bool is_block) {
    const int begin = line_;
    std::string brackets;  // those that are open, as what closes them
    while (true) {
      Skip(LeadingSpaceBytes(rest_));
      if (rest_.empty()) {
        line_ = begin;
        return Bad("a tag is not closed");
      }
      if (brackets.empty() && TakeTagEnd(is_block)) return absl::OkStatus();
      RETURN_IF_ERROR(ReadWord(&brackets));
    }
  }

  bool TakeTagEnd(bool is_block) {
    const std::string_view closing = is_block ? "%}" : "}}";
    const bool marked = rest_[0] == '-' || (is_block && rest_[0] == '+');
    if (!rest_.substr(marked).starts_with(closing)) return false;
    const char sign = marked ? rest_[0] : ' ';
    Add(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "");
    Skip(marked + closing.size());
    AfterTag(sign, is_block);
    return true;
  }

  absl::Status ReadWord(std::string* brackets) {
    const char c = rest_[0];
    if (c == '\'' || c == '"') return ReadString();
    if (absl::ascii_isdigit(c)) return ReadNumber();
    if (IsNameByte(c)) {
      Take(TokenKind::kName,
           std::find_if_not(rest_.begin(), rest_.end(), IsNameByte) - rest_.begin());
      return absl::OkStatus();
    }
    for (const std::string_view sign : kOperators) {
      if (!rest_.starts_with(sign)) continue;
      RETURN_IF_ERROR(Balance(sign, brackets));
      Take(TokenKind::kOperator, sign.size());
      return absl::OkStatus();
    }
    return Bad(absl::StrCat(
        "unexpected \"", absl::CHexEscape(std::string(rest_.substr(0, CharacterBytes(rest_, 0)))),
        "\""));
  }

  absl::Status Balance(std::string_view sign, std::string* brackets) const {
    if (sign == "(" || sign == "[" || sign == "{") {
      brackets->push_back(sign == "(" ? ')' : sign == "[" ? ']' : '}');
    } else if (sign == ")" || sign == "]" || sign == "}") {
      if (brackets->empty() || brackets->back() != sign[0]) {
        return Bad(absl::StrCat("unexpected \"", std::string(sign), "\""));
      }
      brackets->pop_back();
    }
    return absl::OkStatus();
  }

  void Take(TokenKind kind, size_t size) {
    Add(kind, std::string(rest_.substr(0, size)));
    Skip(size);
  }

  static size_t DigitsAt(std::string_view text) {
    size_t size = 0;
    while (size < text.size() &&
           (absl::ascii_isdigit(text[size]) ||
            (size > 0 && text[size] == '_' && absl::ascii_isdigit(text.substr(size + 1)[0])))) {
      ++size;
    }
    return size;
  }

  absl::Status ReadNumber() {
    size_t size = DigitsAt(rest_);
    bool is_float = false;
    if (rest_.substr(size, 1) == "." && DigitsAt(rest_.substr(size + 1)) > 0 && !AfterDot()) {
      is_float = true;
      size += 1 + DigitsAt(rest_.substr(size + 1));
    }
    if (const size_t exponent = ExponentAt(rest_.substr(size)); exponent > 0 && !AfterDot()) {
      is_float = true;
      size += exponent;
    }
    if (size < rest_.size() && IsNameByte(rest_[size])) return Bad("a number is malformed");
    std::string digits(rest_.substr(0, size));
    digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
    Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(digits));
    Skip(size);
    return absl::OkStatus();
  }

  // x.0.1 is two subscripts and no decimal.
  bool AfterDot() const {
    return !tokens_.empty() && tokens_.back().kind == TokenKind::kOperator &&
           tokens_.back().text == ".";
  }

  static size_t ExponentAt(std::string_view text) {
    if (!text.starts_with('e') && !text.starts_with('E')) return 0;
    const bool is_signed = text.substr(1).starts_with('+') || text.substr(1).starts_with('-');
    const size_t digits = DigitsAt(text.substr(1 + is_signed));
    return digits == 0 ? 0 : 1 + is_signed + digits;
  }

  absl::Status ReadString() {
    const char quote = rest_[0];
    std::string text;
    for (size_t i = 1; i < rest_.size(); ++i) {
      if (rest_[i] == quote) {
        Add(TokenKind::kString, std::move(text));
        Skip(i + 1);
        return absl::OkStatus();
      }
      if (rest_[i] != '\\') {
        text.push_back(rest_[i]);
      } else {
        ASSIGN_OR_RETURN(const size_t size, AppendEscaped(rest_.substr(i), &text));
        i += size - 1;
      }
    }
    return Bad("a string is not closed");
  }

  // Python's escapes; returns the bytes of one. What is none stays as it is.
  absl::StatusOr<size_t> AppendEscaped(std::string_view escape, std::string* text) const {
    constexpr std::string_view kNames = "nrtabfv\\'\"", kMeanings = "\n\r\t\a\b\f\v\\'\"";
    if (escape.size() < 2) return Bad("a string is not closed");
    const char name = escape[1];
    if (name == '\n') return 2;
    if (const size_t at = kNames.find(name); at != std::string_view::npos) {
      text->push_back(kMeanings[at]);
      return 2;
    }
    if (name == 'x') return AppendCode(escape, 2, text);
    if (name == 'u') return AppendCode(escape, 4, text);
    if (name == 'U') return AppendCode(escape, 8, text);
    if (name == 'N') return absl::UnimplementedError(AtLine(line_, "\\N{...} is not supported"));
    if (name >= '0' && name <= '7') return AppendOctal(escape, text);
    text->push_back('\\');
    return 1;
  }

  absl::StatusOr<size_t> AppendCode(std::string_view escape, size_t digits,
                                    std::string* text) const {
    char32_t code = 0;
    for (size_t i = 2; i < 2 + digits; ++i) {
      if (i >= escape.size() || !absl::ascii_isxdigit(escape[i])) return Bad("an escape is cut");
      const char c = absl::ascii_tolower(escape[i]);
      code = code * 16 + (absl::ascii_isdigit(c) ? c - '0' : c - 'a' + 10);
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      return Bad("an escape stands for no character");
    }
    AppendUtf8(code, text);
    return 2 + digits;
  }

  static size_t AppendOctal(std::string_view escape, std::string* text) {
    size_t size = 1;
    char32_t code = 0;
    while (size < 4 && size < escape.size() && escape[size] >= '0' && escape[size] <= '7') {
      code = code * 8 + (escape[size++] - '0');
    }
    AppendUtf8(code, text);
    return size;
  }

  std::string_view rest_;
  std::vector<Token> tokens_;
  int line_ = 1;
  bool line_begins_ = true;
};

}  // namespace

absl::StatusOr<std::vector<Token>> ReadTokens(std::string_view source) {
  const std::string plain = WithPlainLineEnds(source);
  return Lexer(plain).Read();
}

std::string AtLine(int line, std::string_view what) {
  return absl::StrCat("line ", line, ": ", absl::string_view(what.data(), what.size()));
}

}  // namespace pregate::jinja

#include "common/model/tokenizer/jinja_parts.h"

#include "absl/strings/ascii.h"

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

}  // namespace pregate

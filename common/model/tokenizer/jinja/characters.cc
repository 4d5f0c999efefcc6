#include "common/model/tokenizer/jinja/characters.h"

#include "common/base/status.h"
#include "common/model/tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"

namespace pregate::jinja {
namespace {

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }
bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isascii(c); });
}

// PCRE2's substitution with the case of `replacement` ("\U$0", "\L$0") forced upon all of a text.
class CaseChange {
 public:
  explicit CaseChange(const char* replacement) : replacement_(replacement) {
    int error = 0;
    size_t offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>("(?s).+"), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    PREGATE_CHECK(code_ != nullptr, "PCRE2 error ", error);
  }

  std::string Apply(std::string_view text) const {
    // A character's other case takes at most one byte more.
    std::string out(text.size() * 2 + 1, '\0');
    size_t size = out.size();
    const int rc =
        pcre2_substitute(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                         PCRE2_NO_UTF_CHECK | PCRE2_SUBSTITUTE_EXTENDED, nullptr, nullptr,
                         reinterpret_cast<PCRE2_SPTR>(replacement_), PCRE2_ZERO_TERMINATED,
                         reinterpret_cast<PCRE2_UCHAR*>(out.data()), &size);
    PREGATE_CHECK(rc >= 0, "PCRE2 error ", rc);
    out.resize(size);
    return out;
  }

 private:
  const char* const replacement_;
  pcre2_code* code_;
};

}  // namespace

std::vector<size_t> CharacterOffsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!IsContinuation(text[i])) offsets.push_back(i);
  }
  offsets.push_back(text.size());
  return offsets;
}

size_t CountCharacters(std::string_view text) {
  return text.size() - std::count_if(text.begin(), text.end(), IsContinuation);
}

size_t CharacterBytes(std::string_view text, size_t pos) {
  size_t end = pos + 1;
  while (end < text.size() && IsContinuation(text[end])) ++end;
  return end - pos;
}

char32_t CodePointAt(std::string_view text, size_t pos) {
  const size_t length = CharacterBytes(text, pos);
  const auto first = static_cast<uint8_t>(text[pos]);
  if (length == 1) return first;
  char32_t c = first & (0xFF >> (length + 1));
  for (size_t i = 1; i < length; ++i) c = c << 6 | (static_cast<uint8_t>(text[pos + i]) & 0x3F);
  return c;
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint8_t kFirst[] = {0, 0xC0, 0xE0, 0xF0};
  out->push_back(static_cast<char>(kFirst[more] | c >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) {
    out->push_back(static_cast<char>(0x80 | (c >> (6 * i) & 0x3F)));
  }
}

bool IsSpace(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool IsLineEnd(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool IsLetter(std::string_view c) {
  static const auto& pattern = *new Pattern("\\p{L}");
  return c.size() == 1 ? absl::ascii_isalpha(c[0]) : pattern.Matches(c);
}
bool IsUpperLetter(std::string_view c) {
  static const auto& pattern = *new Pattern("\\p{Uppercase}");
  return c.size() == 1 ? absl::ascii_isupper(c[0]) : pattern.Matches(c);
}
bool IsLowerLetter(std::string_view c) {
  static const auto& pattern = *new Pattern("\\p{Lowercase}");
  return c.size() == 1 ? absl::ascii_islower(c[0]) : pattern.Matches(c);
}
bool IsDigit(std::string_view c) {
  static const auto& pattern = *new Pattern("\\p{Nd}");
  return c.size() == 1 ? absl::ascii_isdigit(c[0]) : pattern.Matches(c);
}
bool IsPrintable(std::string_view c) {
  static const auto& pattern = *new Pattern("[\\p{C}\\p{Z}]");
  return c.size() == 1 ? absl::ascii_isprint(c[0]) : !pattern.Matches(c);
}

std::string ToUpper(std::string_view text) {
  if (IsAscii(text)) return absl::AsciiStrToUpper(absl::string_view(text.data(), text.size()));
  static const auto& change = *new CaseChange("\\U$0");
  return change.Apply(
      absl::StrReplaceAll(absl::string_view(text.data(), text.size()), {{"\u00DF", "SS"}}));
}
std::string ToLower(std::string_view text) {
  if (IsAscii(text)) return absl::AsciiStrToLower(absl::string_view(text.data(), text.size()));
  static const auto& change = *new CaseChange("\\L$0");
  return change.Apply(text);
}

size_t LeadingSpaceBytes(std::string_view text) {
  size_t pos = 0;
  while (pos < text.size() && IsSpace(CodePointAt(text, pos))) pos += CharacterBytes(text, pos);
  return pos;
}

size_t TrailingSpaceBytes(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && IsContinuation(text[begin])) --begin;
    if (!IsSpace(CodePointAt(text, begin))) break;
    end = begin;
  }
  return text.size() - end;
}

}  // namespace pregate::jinja

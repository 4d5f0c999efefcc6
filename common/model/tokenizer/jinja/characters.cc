#include "common/model/tokenizer/jinja/characters.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "common/model/tokenizer/pattern.h"

namespace pregate::jinja {
namespace {

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

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

// Well-formed UTF-8 (Unicode 15, table 3-7): no overlong forms, no surrogates, nothing above
// U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pregate {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8Kind {
  kCharacter,   // a well-formed character
  kInvalid,     // never part of one, whatever follows
  kIncomplete,  // the end of the text cuts a character that more bytes could complete
};

struct Utf8Step {
  Utf8Kind kind;
  size_t length;  // bytes, at least 1; of what is not a character, its longest well-formed prefix
};

// What stands at bytes[pos]. REQUIRES: pos < bytes.size().
Utf8Step NextUtf8(std::string_view bytes, size_t pos);

bool IsUtf8(std::string_view bytes);

// `bytes` with one U+FFFD for each byte that belongs to no character.
std::string ReplaceStrayBytes(std::string_view bytes);

}  // namespace pregate

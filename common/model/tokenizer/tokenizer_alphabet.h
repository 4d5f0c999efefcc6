// The byte-level alphabet of GPT-2: every byte has a printable character, so that vocabularies and
// merges are plain text. Printable Latin-1 bytes stand for themselves; the others are, in order,
// the characters from U+0100 on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pregate {

// The character of one byte, in UTF-8.
std::string AlphabetFromByte(uint8_t byte);

// The bytes that `text` spells; nothing where it holds a character outside the alphabet.
std::optional<std::string> BytesFromAlphabet(std::string_view text);

// The inverse: `bytes` spelled in the alphabet.
std::string AlphabetFromBytes(std::string_view bytes);

}  // namespace pregate

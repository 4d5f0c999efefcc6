// Characters as Python sees them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pregate::jinja {

// Texts are well-formed UTF-8; positions are byte offsets of characters.
std::vector<size_t> CharacterOffsets(std::string_view text);  // and the text's size behind them
size_t CountCharacters(std::string_view text);
size_t CharacterBytes(std::string_view text, size_t pos);
char32_t CodePointAt(std::string_view text, size_t pos);
void AppendUtf8(char32_t code_point, std::string* out);

// str.isspace of one character; what `\s` is in Python's regular expressions too.
bool IsSpace(char32_t c);
bool IsLineEnd(char32_t c);  // where str.splitlines cuts
// Those below take about a microsecond for a character that is not ASCII.
bool IsLetter(std::string_view character);
bool IsUpperLetter(std::string_view character);
bool IsLowerLetter(std::string_view character);
bool IsDigit(std::string_view character);
bool IsPrintable(std::string_view character);  // repr() shows it as it is

// Bytes of white space that `text` begins or ends with.
size_t LeadingSpaceBytes(std::string_view text);
size_t TrailingSpaceBytes(std::string_view text);

}  // namespace pregate::jinja

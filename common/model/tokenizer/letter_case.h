// The other case of letters by Unicode's mappings, one character for one but for two: the capitals
// of U+00DF (sharp s) are SS, and what is small of U+0130 (I with a dot) is i with U+0307.
#pragma once

#include <string>
#include <string_view>

namespace pregate {

// REQUIRES: the text is UTF-8.
std::string ToUpper(std::string_view text);
std::string ToLower(std::string_view text);

}  // namespace pregate

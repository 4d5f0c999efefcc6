// Regular expressions as expressions of a grammar: ECMA 262's syntax without what looks around or
// back (docs/API.md, "Structured output", has the list). What is not supported is refused by name.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/grammar/grammar.h"
#include "common/grammar/json_text.h"

namespace pregate {

enum class RegexAnchors : uint8_t {
  kWhole,   // the whole text matches, as if between ^ and $
  kSearch,  // it occurs in the text, unless ^ or $ bind it
};

// InvalidArgument says what is wrong and at which byte. Character classes mean what they do without
// flags; \d, \w and \s are ASCII's.
absl::StatusOr<Grammar::Expr> ParseRegex(std::string_view pattern, RegexAnchors anchors,
                                         TextForm form, Grammar* grammar);

}  // namespace pregate

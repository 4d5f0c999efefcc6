// Python's methods of strings on text that keeps its marks.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "common/model/tokenizer/marked_text.h"

namespace pregate::jinja {

enum class Side { kBoth, kLeft, kRight };
// Takes off white space, or the characters of `characters`.
MarkedText Strip(const MarkedText& text, std::optional<std::string_view> characters, Side side);

// At white space, or at `separator`; at most `splits` cuts (negative: any number), from the right
// where `from_right`. REQUIRES: `separator` is not empty.
std::vector<MarkedText> Split(const MarkedText& text, std::optional<std::string_view> separator,
                              int64_t splits, bool from_right);
std::vector<MarkedText> SplitLines(const MarkedText& text, bool keep_ends);

// At most `count` times (negative: everywhere); an empty `from` is before each character.
absl::StatusOr<MarkedText> Replace(const MarkedText& text, std::string_view from,
                                   const MarkedText& to, int64_t count);

// Each stretch of one owner through `change`.
MarkedText Changed(const MarkedText& text, absl::FunctionRef<std::string(std::string_view)> change);
MarkedText Upper(const MarkedText& text);
MarkedText Lower(const MarkedText& text);
MarkedText TitleCharacter(const MarkedText& character);
// The first character in title case, the rest lower.
MarkedText Capitalized(const MarkedText& text);
// The same for each run of letters.
MarkedText Titled(const MarkedText& text);

}  // namespace pregate::jinja

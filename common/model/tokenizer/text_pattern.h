// Something that is looked for in texts: a literal, a kind of character, a regular expression.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate {

struct TextMatch {
  size_t begin, end;  // bytes of the text
  bool operator==(const TextMatch&) const = default;
};

// Immutable; thread-safe.
class TextPattern {
 public:
  virtual ~TextPattern() = default;
  // Appends where it matches, from left to right and without overlaps. A match may be empty.
  // REQUIRES: `text` is well-formed UTF-8.
  virtual void FindAll(std::string_view text, std::vector<TextMatch>* matches) const = 0;
};

// REQUIRES: `literal` is not empty.
std::unique_ptr<TextPattern> MakeLiteral(std::string literal);

// Each match of an expression of ours: see Pattern.
std::unique_ptr<TextPattern> MakeOwnPattern(const char* source);

// A regular expression of a file; errors as those of CompileRegex. One of those that published
// models have is matched by PCRE2, which finds the same several times as fast.
absl::StatusOr<std::unique_ptr<TextPattern>> MakeRegexPattern(const std::string& source);

}  // namespace pregate

// The words of a Jinja template, as jinja2 3.1 reads them with trim_blocks and lstrip_blocks on and
// keep_trailing_newline off.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace pregate::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,  // printed as it is
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,  // `text` is what the literal stands for
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  int line = 1;
};

// InvalidArgument names the line of what is not closed, not known or malformed. The last token is
// kEnd. REQUIRES: `source` is UTF-8 of at most kTemplateSourceBytesMax bytes.
absl::StatusOr<std::vector<Token>> ReadTokens(std::string_view source);

// "line N: WHAT", as all errors of a template begin.
std::string AtLine(int line, std::string_view what);

}  // namespace pregate::jinja

// A regular expression of a tokenizer.json, as the `tokenizers` package reads it: by Oniguruma.
// What a file and a text may cost is bounded (common/base/limits.h, kRegex*).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/text_pattern.h"

namespace pregate {

// InvalidArgument, naming the expression, where it is none, and Unimplemented for what no
// pre-tokenizer needs and no limit bounds: back-references, calls, conditions, absent and call-out
// groups. What FindAll finds ends where the limits on a text are reached.
absl::StatusOr<std::unique_ptr<TextPattern>> CompileRegex(const std::string& source);

}  // namespace pregate

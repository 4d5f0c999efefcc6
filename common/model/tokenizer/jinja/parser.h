// From a template's source to what the interpreter runs.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/jinja/ast.h"

namespace pregate::jinja {

// Errors name the line. Unimplemented names a statement, filter, test, function or method that is
// not known; InvalidArgument is malformed, ResourceExhausted too large or nested too deep.
absl::StatusOr<Template> Parse(std::string_view source);

}  // namespace pregate::jinja

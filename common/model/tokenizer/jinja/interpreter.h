// Runs a parsed template: nothing but its variables, within bounds (common/base/limits.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/tokenizer/jinja/ast.h"
#include "common/model/tokenizer/jinja/builtins.h"

namespace pregate::jinja {

using Variables = std::vector<std::pair<std::string, Value>>;

// What the template prints. Errors begin with "line N: " but for those of raise_exception(), whose
// message is the template's alone: InvalidArgument for what Python would raise, ResourceExhausted
// for a bound that is reached, Unimplemented for what is not known here.
// REQUIRES: the values of `variables` are of `runtime`'s heap.
absl::StatusOr<MarkedText> Render(const Template& parsed, Variables variables, Runtime* runtime);

}  // namespace pregate::jinja

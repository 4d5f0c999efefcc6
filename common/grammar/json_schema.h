// JSON Schema (2020-12) as rules of a grammar. docs/API.md, "Structured output", says which keywords
// are honoured, which texts of a schema are never written, and what is refused.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/grammar/grammar.h"

namespace pregate {

// Adds the schema's rules to a grammar and returns the first one. Every text of it is valid; not every valid text is in
// it: members come in the order of their declaration, white space is bounded, "oneOf" is "anyOf".
// InvalidArgument names keyword and JSON pointer.
absl::StatusOr<Grammar::Rule> AddJsonSchema(std::string_view schema, Grammar* grammar);

}  // namespace pregate

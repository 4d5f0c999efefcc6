// What JSON Schema says about strings: length, pattern, format.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/grammar/grammar.h"
#include "common/grammar/json_text.h"
#include "common/grammar/schema_keywords.h"

namespace pregate {

// A string that `schema` allows.
absl::StatusOr<Grammar::Expr> StringOf(const Schema& schema, const std::string& pointer,
                                       JsonText* json, Grammar* grammar);

// A count of characters or items; `fallback` where there is none.
absl::StatusOr<int64_t> CountOf(const Schema& schema, const char* keyword, int64_t fallback,
                                const std::string& pointer);

}  // namespace pregate

// Whether a JSON value is valid for a JSON Schema: plain and direct, as the standard says it, for
// what AddJsonSchema understands. "oneOf" is read as "anyOf", as there.
#pragma once

#include "common/grammar/schema_keywords.h"

namespace pregate {

bool IsValid(const Schema& value, const Schema& schema, const Schema& root);

}  // namespace pregate

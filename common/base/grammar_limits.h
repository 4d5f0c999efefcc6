// Limits of what the text of an answer may be held to, beside those of common/base/limits.h;
// AllLimits() has both.
#pragma once

#include "common/base/limits.h"

// clang-format off
#define PREGATE_CONSTRAINT_LIMITS(X) \
  X(kConstraintsLiveBytesMax, size_t{1} << 30, "bytes", "compiled constraints of all requests together") \
  X(kGrammarNodesMax, 1 << 19, "nodes", "expressions that a schema becomes")                             \
  X(kSchemaNameBytesMax, size_t{4096}, "bytes", "properties beside which others are allowed")
// clang-format on

namespace pregate {

#define PREGATE_LIMIT_CONSTANT(name, value, unit, meaning) inline constexpr auto name = value;
PREGATE_CONSTRAINT_LIMITS(PREGATE_LIMIT_CONSTANT)
#undef PREGATE_LIMIT_CONSTANT

}  // namespace pregate

// Limits of one generation request's fields, as common/base/limits.h has all others; AllLimits() has
// both.
#pragma once

#include "common/base/limits.h"

// clang-format off
#define PREGATE_REQUEST_LIMITS(X) \
  X(kLogitBiasMax, 1024, "tokens", "logit_bias of one request")                                        \
  X(kBannedTokensMax, 256, "tokens", "end tokens that min_tokens keeps back: the request's and the model's") \
  X(kChoicesMax, 32, "generations", "n and best_of of one request")                                    \
  X(kPriorityMax, 10, "levels", "above and below 0 that a request's priority may be")                  \
  X(kToolsMax, 128, "tools", "of one chat request; as many calls may one message have")                \
  X(kToolNameBytesMax, 64, "bytes", "a tool's name")                                                   \
  X(kPromptPieceTokens, 1024, "tokens", "of a prompt whose log-probabilities one answer carries")      \
  X(kScoredTokensMax, 512, "tokens", "of prompts whose log-probabilities one step computes")
// clang-format on

namespace pregate {

#define PREGATE_LIMIT_CONSTANT(name, value, unit, meaning) inline constexpr auto name = value;
PREGATE_REQUEST_LIMITS(PREGATE_LIMIT_CONSTANT)
#undef PREGATE_LIMIT_CONSTANT

static_assert(kStopTokensMax + kEosTokensMax <= kBannedTokensMax, "min_tokens bans all end tokens");

}  // namespace pregate

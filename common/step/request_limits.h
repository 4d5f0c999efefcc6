// For the time being beside common/base/limits.h.
#pragma once

#include "common/base/limits.h"

namespace pregate {

inline constexpr auto kLogitBiasMax = 1024;
inline constexpr auto kBannedTokensMax = 256;
inline constexpr auto kChoicesMax = 32;
inline constexpr auto kPriorityMax = 10;
inline constexpr auto kScoredTokensMax = 512;

}  // namespace pregate

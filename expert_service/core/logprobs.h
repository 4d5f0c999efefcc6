// Log-probabilities of raw logits, for rows that ask for them.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/step/result.h"

namespace pregate {

// `token`'s own first, then the k most likely of all (ties: lowest id first; `token` may come
// again). REQUIRES: finite logits, token in range, 0 <= k.
std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, TokenId token, int32_t k);

}  // namespace pregate

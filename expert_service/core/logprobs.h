// Log-probabilities of raw logits, for rows that ask for them.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/step/result.h"

namespace pregate {

// `token`'s own, which is known, first, then the k most likely of all (ties: lowest id first; `token`
// may come again). One look at each logit. REQUIRES: token in range, 0 <= k.
std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, TokenId token,
                                      float token_logprob, int32_t k);

}  // namespace pregate

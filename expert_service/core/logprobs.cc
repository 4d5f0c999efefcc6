#include "expert_service/core/logprobs.h"

#include <algorithm>

namespace pregate {

std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, TokenId token,
                                      float token_logprob, int32_t k) {
  std::vector<TokenId> top;  // the most likely first
  for (TokenId id = 0; k > 0 && id < static_cast<TokenId>(logits.size()); ++id) {
    const bool full = top.size() == static_cast<size_t>(k);
    if (full && !(logits[id] > logits[top.back()])) continue;
    if (full) top.pop_back();
    const auto at = std::upper_bound(top.begin(), top.end(), logits[id],
                                     [&](float x, TokenId t) { return x > logits[t]; });
    top.insert(at, id);
  }
  std::vector<TokenLogprob> out = {{token, token_logprob}};
  for (const TokenId id : top) {
    const double above = double{logits[id]} - logits[token];
    out.push_back({id, static_cast<float>(token_logprob + above)});
  }
  return out;
}

}  // namespace pregate

#include "expert_service/core/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pregate {

std::vector<TokenLogprob> TopLogprobs(absl::Span<const float> logits, TokenId token, int32_t k) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double log_sum = std::log(sum);
  const auto logprob = [&](TokenId id) {
    return static_cast<float>(static_cast<double>(logits[id]) - largest - log_sum);
  };

  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto end = ids.begin() + std::min<size_t>(k, ids.size());
  std::partial_sort(ids.begin(), end, ids.end(), [&](TokenId a, TokenId b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });

  std::vector<TokenLogprob> out = {{token, logprob(token)}};
  for (auto id = ids.begin(); id != end; ++id) out.push_back({*id, logprob(*id)});
  return out;
}

}  // namespace pregate

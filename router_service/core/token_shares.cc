#include "router_service/core/token_shares.h"

#include <algorithm>
#include <numeric>

namespace pregate {

std::vector<int> TokenShares(absl::Span<const int> remaining, int budget) {
  std::vector<int> shares(remaining.size(), 0);
  if (remaining.empty()) return shares;
  shares[0] = std::min(remaining[0], std::max(1, budget / 4));
  budget -= shares[0];

  std::vector<int> order(remaining.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return remaining[a] < remaining[b]; });
  for (int i : order) {
    const int more = std::min(remaining[i] - shares[i], budget);
    shares[i] += more;
    budget -= more;
  }
  return shares;
}

}  // namespace pregate

// How one step's token budget is divided among the requests that are being routed.
#pragma once

#include <vector>

#include "absl/types/span.h"

namespace pregate {

// `remaining`: tokens left of each request, in order of arrival, each positive. Returns tokens for
// each, with sum = min(budget, sum of remaining). Shortest first, since a token just sampled must
// not wait for a long prompt and this order has the least mean waiting time; but the oldest gets a
// quarter of the budget ahead of all, so that none starves. REQUIRES: budget >= 1.
std::vector<int> TokenShares(absl::Span<const int> remaining, int budget);

}  // namespace pregate

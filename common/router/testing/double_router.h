// The paper's router written down once more, in plain double loops over the full prefix: what the
// fast one is tested against.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/router/testing/random_router.h"

namespace pregate {

// logits [tokens, experts]
std::vector<double> DoubleRouterLogits(const InMemoryCheckpoint& checkpoint,
                                       absl::Span<const TokenId> tokens);

}  // namespace pregate

// Finds the neurons that all experts of a fused layer have in common.
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "common/model/formats/stored_tensor.h"

namespace pregate {

// One expert's FFN: gate, up [width, hidden], down [hidden, width], all of one stored type.
struct FusedExpert {
  const StoredTensor* gate = nullptr;
  const StoredTensor* up = nullptr;
  const StoredTensor* down = nullptr;
};

// rows[e][k] = the row of expert e that holds shared neuron k; ascending in expert 0. A neuron is
// shared when its gate row, up row and down column are equal bit for bit in every expert. REQUIRES:
// equal shapes and stored types across experts.
std::vector<std::vector<int32_t>> FindSharedNeurons(absl::Span<const FusedExpert> experts);

}  // namespace pregate

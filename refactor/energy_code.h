// One byte a neuron: a token's activations as shares of the energy of its FFN output.
//
// A neuron's energy is h^2 |w|^2, with h its activation and |w| the norm of its column of
// down_proj; its share is that over the sum of the layer. A share in (2^-32, 1] is kept with 8
// steps an octave: the top bits of its float. Statistic, assignment and router targets need every
// token's shares three times over, which costs 20 times less from here than from the model.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace pregate {

// Writes the codes of one token in one layer and returns the energy that the shares are of.
// `weights` are |w|^2. REQUIRES: equal sizes. A token without energy gets codes 0.
float EncodeShares(absl::Span<const float> activations, absl::Span<const float> weights,
                   absl::Span<uint8_t> codes);

// The middle of the interval that a code stands for; code 0 is a share of 0.
void DecodeShares(absl::Span<const uint8_t> codes, absl::Span<float> shares);

}  // namespace pregate

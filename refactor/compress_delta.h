// Differences of weights in a budget of bytes. Only LibTorch's users include this.
//
// A matrix is approximated by its largest singular vectors, in int8 with a scale each. Over all
// matrices the terms are taken in the order of what they add to the squared Frobenius norm a byte,
// until the budget is spent; a matrix whose terms would be as large as itself is kept whole. Vectors
// are exact.
#pragma once

#include "refactor/causal_model.h"
#include "refactor/weight_delta.h"

namespace pregate {

struct CompressedDeltas {
  WeightDeltas deltas;  // of the differences that are not 0
  int64_t bytes = 0;
  double error = 0;  // Frobenius norm of what is lost over that of all differences
};

// bytes_max 0: every matrix whole.
CompressedDeltas CompressDeltas(const NamedTensors& differences, int64_t bytes_max);

}  // namespace pregate

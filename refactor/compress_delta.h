// Differences of weights in a budget of bytes. Only LibTorch's users include this.
//
// Each matrix begins with no bits and is left out. Whichever one loses the most of its squared error
// a byte by one more bit a weight gets it, as long as the budget has room; one that no longer fits
// stays as it is. Vectors are exact and come first.
#pragma once

#include "refactor/causal_model.h"
#include "refactor/weight_delta.h"

namespace pregate {

struct CompressedDeltas {
  WeightDeltas deltas;  // of the differences that are not 0
  int64_t bytes = 0;    // at most bytes_max, unless that is 0
  double error = 0;     // Frobenius norm of what is lost over that of all differences
  double bits = 0;      // of a code, the mean over matrices' weights that differ; 0 where left out
};

// bytes_max 0: every matrix in 8 bits.
CompressedDeltas CompressDeltas(const NamedTensors& differences, int64_t bytes_max);

// Of the matrices those that `grid` has, in its bits and scales; vectors are exact.
CompressedDeltas CompressOnGrid(const NamedTensors& differences, const WeightDeltas& grid);

}  // namespace pregate

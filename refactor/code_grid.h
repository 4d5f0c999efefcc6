// Weights as an artifact stores them, while they are still tuned. Only LibTorch's users include this.
//
// A matrix of few bits a weight is some way off the one that was tuned. So the last steps run on what
// will be stored: the dense weight plus the level next to the difference, on a grid that no longer
// changes (bits a matrix, a scale a row, weight_delta.h). The gradient passes to the weight itself,
// straight through the rounding (Bengio et al. 2013, arXiv 1308.3432).
#pragma once

#include "refactor/causal_model.h"
#include "refactor/weight_delta.h"

namespace pregate {

// Does not change once made.
class CodeGrid {
 public:
  // `dense`: the matrices that are tuned, [rows, columns] in f32 each, as they were; `grid`: deltas
  // whose bits and scales are taken. One that has no delta is stored as it was.
  CodeGrid(NamedTensors dense, const WeightDeltas& grid);

  // What is stored of a matrix that is `weight` now, of its shape and on its device; its gradient is
  // weight's. What of `weight` lies more than half a level beyond the outermost one is brought back to
  // there, in place: it is stored as that level, and would wander off unseen. REQUIRES: `name` is one
  // of dense's, `weight` a leaf.
  at::Tensor Stored(const std::string& name, const at::Tensor& weight) const;

  const NamedTensors& dense() const { return dense_; }

 private:
  struct Levels {
    double middle = 0;          // the largest code over 2
    at::Tensor scale, inverse;  // [rows, 1]
  };
  NamedTensors dense_;
  std::map<std::string, Levels> levels_;
};

}  // namespace pregate

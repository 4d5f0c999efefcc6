// AdamW over named tensors whose state can be saved and set, and a gradient norm that stops a run
// which has gone wrong. Only LibTorch's users include this.
#pragma once

#include "refactor/causal_model.h"

namespace pregate {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double decay = 0.01;  // of matrices, by the rate
  double norm_max = 1;  // gradients are scaled down to it
};

// Not thread-safe.
class AdamW {
 public:
  // `parameters` are leaves that need gradients, and are changed in place.
  AdamW(NamedTensors parameters, const AdamWOptions& options);

  // One step along the gradients, which it takes away. Returns their norm before it was limited;
  // where that is not finite nothing has changed.
  double Step(double rate);

  const NamedTensors& parameters() const { return parameters_; }
  // The state beside the parameters: running means of gradients and of their squares.
  NamedTensors& means() { return means_; }
  NamedTensors& squares() { return squares_; }
  void SetSteps(int64_t steps) { steps_ = steps; }

 private:
  const AdamWOptions options_;
  NamedTensors parameters_, means_, squares_;
  int64_t steps_ = 0;
};

}  // namespace pregate

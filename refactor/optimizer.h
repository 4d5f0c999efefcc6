// What a step does with gradients, over named tensors whose state can be saved and set, and a gradient
// norm that stops a run which has gone wrong. Only LibTorch's users include this.
//
// AdamW (Loshchilov, Hutter 2019, arXiv 1711.05101), or for matrices Muon (Jordan et al. 2024; scaled as
// by Liu et al. 2025, arXiv 2502.16982): with the mean m of gradients, beta m + (1 - beta) g,
// and u = beta m + (1 - beta) g again (Nesterov), the step is
//     W -= rate (0.2 sqrt(max(rows, columns)) U V^T + decay W),    u = U S V^T
// that is, as long in all directions that u has, and of the root mean square of AdamW's usual steps. U V^T
// is found by five Newton-Schulz iterations on u / |u|, X = a X + (b A + c A^2) X with A = X X^T, whose
// coefficients bring all singular values to between 0.7 and 1.2.
#pragma once

#include "refactor/causal_model.h"

namespace pregate {

struct OptimizerOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double decay = 0;     // of matrices to 0, by the rate
  double norm_max = 1;  // gradients are scaled down to it
  bool muon = false;    // for matrices
  double muon_beta = 0.95;
  at::ScalarType compute = at::kFloat;  // of Muon's products
};

// U V^T, nearly, of each of [n, rows, columns], in `compute`.
at::Tensor Orthogonalized(const at::Tensor& matrices, at::ScalarType compute);

// Not thread-safe.
class Optimizer {
 public:
  // `parameters` are leaves that need gradients, and are changed in place.
  Optimizer(NamedTensors parameters, const OptimizerOptions& options);

  // One step along the gradients, which it takes away. Returns their norm before it was limited;
  // where that is not finite nothing has changed.
  double Step(double rate);

  const NamedTensors& parameters() const { return parameters_; }
  // The state beside the parameters: running means of gradients and, of AdamW's, of their squares.
  NamedTensors& means() { return means_; }
  NamedTensors& squares() { return squares_; }
  void SetSteps(int64_t steps) { steps_ = steps; }

 private:
  struct Tensors {
    std::vector<at::Tensor> parameters, gradients, means, squares;
  };
  void StepAdamW(Tensors& tensors, double rate);
  void StepMuon(Tensors& tensors, double rate) const;
  bool TakesMuon(const at::Tensor& parameter) const {
    return options_.muon && parameter.dim() == 2;
  }

  const OptimizerOptions options_;
  NamedTensors parameters_, means_, squares_;
  int64_t steps_ = 0;
};

}  // namespace pregate

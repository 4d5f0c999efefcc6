// One factor a neuron on the kept columns of down_proj, which makes up for the dropped ones.
//
// For layer and domain d with activations h, minimise over the scales s of what expert d keeps
//     sum_d  E |W h - W_d diag(s_d) h_d|^2 / E |W h|^2 + ridge |s - 1|^2 (weighted by diagonal)
// Shared neurons have one scale for all experts. With G = E[h h^T] and K = G o (W^T W) these are
// normal equations whose matrix is an arrow: a shared block, and one block per expert that touches
// only the shared one. No weight is trained: it is linear least squares on one pass of activations.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "refactor/neuron_sets.h"

namespace pregate {

// As the neurons of LayerNeurons.
struct LayerScales {
  std::vector<float> shared;
  std::vector<std::vector<float>> own;
};

// Of one layer. Not thread-safe; uses LibTorch's threads. Memory: domains * width^2 floats, and 4 *
// width^2 doubles in Solve.
class ScaleRefit {
 public:
  ScaleRefit(int num_domains, int width);
  ~ScaleRefit();

  // Activations [rows, width] of one domain's tokens.
  void Add(int domain, absl::Span<const float> activations);

  // `down` [hidden, width]; expert e is fitted to domain e. Internal when the equations are not
  // positive definite, which a ridge > 0 rules out for a domain with any activation.
  absl::StatusOr<LayerScales> Solve(absl::Span<const float> down, const LayerNeurons& neurons,
                                    double ridge) const;

 private:
  struct Sums;
  const int num_domains_;
  const int width_;
  const std::unique_ptr<Sums> sums_;
};

}  // namespace pregate

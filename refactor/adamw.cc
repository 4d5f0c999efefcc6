#include "refactor/adamw.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace pregate {

AdamW::AdamW(NamedTensors parameters, const AdamWOptions& options)
    : options_(options), parameters_(std::move(parameters)) {
  for (const auto& [name, parameter] : parameters_) {
    means_[name] = at::zeros_like(parameter).requires_grad_(false);
    squares_[name] = at::zeros_like(parameter).requires_grad_(false);
  }
}

double AdamW::Step(double rate) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> changed, matrices, gradients, means, squares;
  for (auto& [name, parameter] : parameters_) {
    if (!parameter.grad().defined()) continue;
    changed.push_back(parameter);
    if (parameter.dim() > 1) matrices.push_back(parameter);
    gradients.push_back(parameter.grad());
    means.push_back(means_[name]);
    squares.push_back(squares_[name]);
  }
  if (changed.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (!std::isfinite(norm)) return norm;
  at::_foreach_mul_(gradients, std::min(1.0, options_.norm_max / std::max(norm, 1e-12)));
  ++steps_;
  const double mean_part = 1 - std::pow(options_.beta1, steps_);
  const double square_part = std::sqrt(1 - std::pow(options_.beta2, steps_));
  at::_foreach_mul_(means, options_.beta1);
  at::_foreach_add_(means, gradients, 1 - options_.beta1);
  at::_foreach_mul_(squares, options_.beta2);
  at::_foreach_addcmul_(squares, gradients, gradients, 1 - options_.beta2);
  std::vector<at::Tensor> sizes = at::_foreach_sqrt(squares);
  at::_foreach_div_(sizes, square_part);
  at::_foreach_add_(sizes, options_.epsilon);
  if (!matrices.empty()) at::_foreach_mul_(matrices, 1 - rate * options_.decay);
  at::_foreach_addcdiv_(changed, means, sizes, -rate / mean_part);
  for (at::Tensor& parameter : changed) parameter.mutable_grad().reset();
  return norm;
}

}  // namespace pregate

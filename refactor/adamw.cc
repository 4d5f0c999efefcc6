#include "refactor/adamw.h"

#include <algorithm>
#include <cmath>

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
  std::vector<at::Tensor> norms;
  for (const auto& [name, parameter] : parameters_) {
    if (parameter.grad().defined()) norms.push_back(parameter.grad().norm());
  }
  const double norm = norms.empty() ? 0 : at::stack(norms).norm().item<double>();
  if (!std::isfinite(norm)) return norm;
  const double limit = std::min(1.0, options_.norm_max / std::max(norm, 1e-12));
  ++steps_;
  const double mean_part = 1 - std::pow(options_.beta1, steps_);
  const double square_part = std::sqrt(1 - std::pow(options_.beta2, steps_));
  for (auto& [name, parameter] : parameters_) {
    if (!parameter.grad().defined()) continue;
    const at::Tensor gradient = parameter.grad() * limit;
    at::Tensor& mean = means_[name];
    at::Tensor& square = squares_[name];
    mean.mul_(options_.beta1).add_(gradient, 1 - options_.beta1);
    square.mul_(options_.beta2).addcmul_(gradient, gradient, 1 - options_.beta2);
    const at::Tensor size = (square.sqrt() / square_part).add_(options_.epsilon);
    if (parameter.dim() > 1) parameter.mul_(1 - rate * options_.decay);
    parameter.addcdiv_(mean, size, -rate / mean_part);
    parameter.mutable_grad().reset();
  }
  return norm;
}

}  // namespace pregate

#include "refactor/optimizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace pregate {
namespace {

constexpr int kIterations = 5;
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kStepSize = 0.2;  // root mean square of AdamW's steps, in rates

}  // namespace

at::Tensor Orthogonalized(const at::Tensor& matrices, at::ScalarType compute) {
  const bool tall = matrices.size(1) > matrices.size(2);
  at::Tensor x = (tall ? matrices.transpose(1, 2) : matrices).to(at::kFloat);
  const at::Tensor norms = x.square().sum({1, 2}, /*keepdim=*/true).sqrt();
  x = (x / (norms + 1e-7)).to(compute);
  for (int i = 0; i < kIterations; ++i) {
    const at::Tensor a = at::bmm(x, x.transpose(1, 2));
    const at::Tensor b = at::baddbmm(a, a, a, /*beta=*/kB, /*alpha=*/kC);
    x = at::baddbmm(x, b, x, /*beta=*/kA);
  }
  return (tall ? x.transpose(1, 2) : x).to(at::kFloat);
}

Optimizer::Optimizer(NamedTensors parameters, const OptimizerOptions& options)
    : options_(options), parameters_(std::move(parameters)) {
  for (const auto& [name, parameter] : parameters_) {
    means_[name] = at::zeros_like(parameter).requires_grad_(false);
    if (!TakesMuon(parameter)) squares_[name] = at::zeros_like(parameter).requires_grad_(false);
  }
}

void Optimizer::StepAdamW(Tensors& tensors, double rate) {
  auto& [parameters, gradients, means, squares] = tensors;
  const double mean_part = 1 - std::pow(options_.beta1, steps_);
  const double square_part = std::sqrt(1 - std::pow(options_.beta2, steps_));
  at::_foreach_mul_(means, options_.beta1);
  at::_foreach_add_(means, gradients, 1 - options_.beta1);
  at::_foreach_mul_(squares, options_.beta2);
  at::_foreach_addcmul_(squares, gradients, gradients, 1 - options_.beta2);
  std::vector<at::Tensor> sizes = at::_foreach_sqrt(squares);
  at::_foreach_div_(sizes, square_part);
  at::_foreach_add_(sizes, options_.epsilon);
  std::vector<at::Tensor> matrices;
  for (const at::Tensor& parameter : parameters) {
    if (parameter.dim() > 1) matrices.push_back(parameter);
  }
  if (!matrices.empty()) at::_foreach_mul_(matrices, 1 - rate * options_.decay);
  at::_foreach_addcdiv_(parameters, means, sizes, -rate / mean_part);
}

void Optimizer::StepMuon(Tensors& tensors, double rate) const {
  auto& [parameters, gradients, means, squares] = tensors;
  at::_foreach_mul_(means, options_.muon_beta);
  at::_foreach_add_(means, gradients, 1 - options_.muon_beta);
  at::_foreach_mul_(gradients, 1 - options_.muon_beta);
  at::_foreach_add_(gradients, means, options_.muon_beta);
  at::_foreach_mul_(parameters, 1 - rate * options_.decay);
  std::map<std::vector<int64_t>, std::vector<size_t>>
      by_shape;  // products of one shape in one call
  for (size_t i = 0; i < parameters.size(); ++i) {
    by_shape[parameters[i].sizes().vec()].push_back(i);
  }
  for (const auto& [shape, members] : by_shape) {
    std::vector<at::Tensor> updates, changed;
    for (const size_t i : members) {
      updates.push_back(gradients[i]);
      changed.push_back(parameters[i]);
    }
    const double size = kStepSize * std::sqrt(static_cast<double>(std::max(shape[0], shape[1])));
    at::_foreach_add_(changed, Orthogonalized(at::stack(updates), options_.compute).unbind(0),
                      -rate * size);
  }
}

double Optimizer::Step(double rate) {
  const at::NoGradGuard no_grad;
  Tensors by_adamw, by_muon;
  std::vector<at::Tensor> gradients;
  for (auto& [name, parameter] : parameters_) {
    if (!parameter.grad().defined()) continue;
    const bool muon = TakesMuon(parameter);
    Tensors& tensors = muon ? by_muon : by_adamw;
    tensors.parameters.push_back(parameter);
    tensors.gradients.push_back(parameter.grad());
    tensors.means.push_back(means_[name]);
    if (!muon) tensors.squares.push_back(squares_[name]);
    gradients.push_back(parameter.grad());
  }
  if (gradients.empty()) return 0;
  const double norm = at::stack(at::_foreach_norm(gradients)).norm().item<double>();
  if (!std::isfinite(norm)) return norm;
  at::_foreach_mul_(gradients, std::min(1.0, options_.norm_max / std::max(norm, 1e-12)));
  ++steps_;
  if (!by_adamw.parameters.empty()) StepAdamW(by_adamw, rate);
  if (!by_muon.parameters.empty()) StepMuon(by_muon, rate);
  for (const Tensors* const tensors : {&by_adamw, &by_muon}) {
    for (const at::Tensor& parameter : tensors->parameters) parameter.mutable_grad().reset();
  }
  return norm;
}

}  // namespace pregate

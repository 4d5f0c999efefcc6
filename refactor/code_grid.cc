#include "refactor/code_grid.h"

#include "refactor/fused_ops.h"

namespace pregate {

CodeGrid::CodeGrid(NamedTensors dense, const WeightDeltas& grid) : dense_(std::move(dense)) {
  for (const auto& [name, weight] : dense_) {
    const auto delta = grid.find(name);
    if (delta == grid.end()) continue;
    const CodedMatrix& coded = delta->second.coded;
    const at::Tensor scale = at::tensor(coded.scales).unsqueeze(1).to(weight.device());
    const at::Tensor none = scale.eq(0);
    levels_[name] = {.middle = ((1 << coded.bits) - 1) / 2.0,
                     .scale = scale,
                     .inverse = scale.masked_fill(none, 1).reciprocal().masked_fill(none, 0)};
  }
}

at::Tensor CodeGrid::Stored(const std::string& name, const at::Tensor& weight) const {
  const at::Tensor& dense = dense_.at(name);
  const auto levels = levels_.find(name);
  if (levels == levels_.end()) return weight + (dense - weight.detach());
  const auto& [middle, scale, inverse] = levels->second;
  if (TakesFusedStored(weight)) return FusedStored(weight, dense, scale, middle);
  at::Tensor rounding;  // stored - weight
  {
    const at::NoGradGuard no_grad;
    const at::Tensor reach = scale * (middle + 0.5);
    at::Tensor change = at::max(at::min(weight - dense, reach), -reach);
    at::Tensor(weight).copy_(dense + change);
    rounding = change.mul_(inverse).add_(middle + 0.5).floor_().clamp_(0, 2 * middle);
    rounding.sub_(middle).mul_(scale).add_(dense).sub_(weight);
  }
  return weight + rounding;
}

}  // namespace pregate

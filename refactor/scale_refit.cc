#include "refactor/scale_refit.h"

#include <ATen/ATen.h>

#include "common/base/status.h"
#include "refactor/torch_ops.h"

namespace pregate {
namespace {

at::Tensor Indices(const std::vector<int32_t>& neurons) {
  return at::from_blob(const_cast<int32_t*>(neurons.data()), {static_cast<int64_t>(neurons.size())},
                       at::kInt)
      .to(at::kLong);
}

at::Tensor Block(const at::Tensor& matrix, const at::Tensor& rows, const at::Tensor& columns) {
  return matrix.index_select(0, rows).index_select(1, columns);
}

// Pulls the scales towards 1: ridge times the diagonal, on both sides of the equations.
void AddRidge(at::Tensor& matrix, at::Tensor& right, double ridge) {
  const at::Tensor weight = matrix.diagonal().clone() * ridge + 1e-12;
  matrix.diagonal().add_(weight);
  right.add_(weight.unsqueeze(1));
}

// Lower Cholesky factor, or an error where LAPACK found none.
absl::StatusOr<at::Tensor> Cholesky(const at::Tensor& matrix, const char* what) {
  const auto [factor, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<int>() != 0) {
    return absl::InternalError(absl::StrCat(
        "scale refit: the ", what, " block is not positive definite at row ", info.item<int>()));
  }
  return factor;
}

}  // namespace

struct ScaleRefit::Sums {
  std::vector<at::Tensor> gram;  // [domains], each [width, width]
};

ScaleRefit::ScaleRefit(int num_domains, int width)
    : num_domains_(num_domains), width_(width), sums_(std::make_unique<Sums>()) {
  for (int i = 0; i < num_domains; ++i) {
    sums_->gram.push_back(at::zeros({width, width}, at::kFloat));
  }
}
ScaleRefit::~ScaleRefit() = default;

void ScaleRefit::Add(int domain, absl::Span<const float> activations) {
  const auto rows = static_cast<int64_t>(activations.size()) / width_;
  const at::Tensor h =
      at::from_blob(const_cast<float*>(activations.data()), {rows, width_}, at::kFloat);
  sums_->gram[domain].addmm_(h.t(), h);
}

absl::StatusOr<LayerScales> ScaleRefit::Solve(absl::Span<const float> down,
                                              const LayerNeurons& neurons, double ridge) const {
  const at::NoGradGuard no_grad;
  PREGATE_CHECK(static_cast<int>(neurons.own.size()) == num_domains_);
  const auto hidden = static_cast<int64_t>(down.size()) / width_;
  const at::Tensor w =
      at::from_blob(const_cast<float*>(down.data()), {hidden, width_}, at::kFloat).to(at::kDouble);
  const at::Tensor products = at::mm(w.t(), w);
  const at::Tensor shared = Indices(neurons.shared);
  const auto num_shared = shared.numel();

  // Per expert: own block A (factored), B = own x shared, right side b. Eliminating the own scales
  // leaves (S - sum B^T A^-1 B) s = r - sum B^T A^-1 b for the shared ones.
  struct Expert {
    at::Tensor factor, cross, right;
  };
  std::vector<Expert> experts;
  at::Tensor shared_block = at::zeros({num_shared, num_shared}, at::kDouble);
  at::Tensor shared_right = at::zeros({num_shared, 1}, at::kDouble);
  for (int e = 0; e < num_domains_; ++e) {
    at::Tensor k = sums_->gram[e].to(at::kDouble) * products;
    k /= std::max(k.sum().item<double>(), 1e-30);  // E |W h|^2
    const at::Tensor target = k.sum(1, /*keepdim=*/true);
    const at::Tensor own = Indices(neurons.own[e]);
    at::Tensor block = Block(k, own, own), right = target.index_select(0, own);
    AddRidge(block, right, ridge);
    Expert expert{.cross = Block(k, own, shared), .right = right};
    ASSIGN_OR_RETURN(expert.factor, Cholesky(block, "own"));
    shared_block += Block(k, shared, shared);
    shared_right += target.index_select(0, shared);
    experts.push_back(std::move(expert));
  }
  AddRidge(shared_block, shared_right, ridge);
  for (const Expert& e : experts) {
    const at::Tensor reduced = at::cholesky_solve(e.cross, e.factor);
    shared_block -= at::mm(e.cross.t(), reduced);
    shared_right -= at::mm(reduced.t(), e.right);
  }
  ASSIGN_OR_RETURN(const at::Tensor factor, Cholesky(shared_block, "shared"));
  const at::Tensor shared_scales = at::cholesky_solve(shared_right, factor);

  LayerScales scales{.shared = ToFloats(shared_scales)};
  for (const Expert& e : experts) {
    scales.own.push_back(
        ToFloats(at::cholesky_solve(e.right - at::mm(e.cross, shared_scales), e.factor)));
  }
  return scales;
}

}  // namespace pregate

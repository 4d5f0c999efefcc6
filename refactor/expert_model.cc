#include "refactor/expert_model.h"

#include <torch/cuda.h>

#include <algorithm>
#include <functional>

#include "common/base/status.h"
#include "refactor/fused_ops.h"

namespace pregate {
namespace {

void SetGain(const std::vector<int32_t>& neurons, const std::vector<float>& scale, at::Tensor row) {
  auto gains = row.accessor<float, 1>();
  for (size_t i = 0; i < neurons.size(); ++i) gains[neurons[i]] = scale.empty() ? 1 : scale[i];
}

at::Tensor GainsOf(const ArtifactLayer& layer, int intermediate) {
  at::Tensor gains = at::zeros({static_cast<int64_t>(layer.own.size()), intermediate});
  for (size_t e = 0; e < layer.own.size(); ++e) {
    const at::Tensor row = gains[static_cast<int64_t>(e)];
    SetGain(layer.shared, layer.shared_scale, row);
    SetGain(layer.own[e], layer.own_scale.empty() ? std::vector<float>() : layer.own_scale[e], row);
  }
  return gains;
}

RowLosses RowLossesOf(const at::Tensor& logits, const at::Tensor& parent, const at::Tensor& next) {
  if (TakesFused(logits, logits.size(1))) return FusedLosses(logits, parent, next);
  RowLosses losses;
  const at::Tensor log_q = logits.to(at::kFloat).log_softmax(-1);
  losses.nll = -log_q.gather(1, next.unsqueeze(1)).squeeze(1);
  if (parent.defined()) {
    const at::Tensor log_p = parent.to(at::kFloat).log_softmax(-1);
    const at::Tensor p = log_p.exp();
    losses.divergence = (p * log_p).sum(-1) - (p * log_q).sum(-1);
  }
  return losses;
}

}  // namespace

absl::StatusOr<TorchPlace> PlaceOf(const std::string& device) {
  if (device == "cpu") return TorchPlace();
  if (!torch::cuda::is_available()) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", device, ": this LibTorch finds no such device"));
  }
  return TorchPlace{at::Device(device), at::kBFloat16};
}

absl::StatusOr<CausalModel> LoadExperts(const Checkpoint& dense, const Artifact& artifact,
                                        int window_tokens, const TorchPlace& place,
                                        at::ScalarType dtype) {
  RETURN_IF_ERROR(RefactoredSpec(dense.spec(), artifact).status());
  ASSIGN_OR_RETURN(CausalModel model, CausalModel::Load(dense, window_tokens, place.device, dtype,
                                                        place.compute, &artifact.deltas));
  std::vector<at::Tensor> gains;
  for (const ArtifactLayer& layer : artifact.layers) {
    gains.push_back(GainsOf(layer, dense.spec().intermediate).to(place.device));
  }
  model.SetGains(std::move(gains));
  return model;
}

bool ExpertsAlike(const Artifact& artifact) {
  const auto alike = [](const auto& each) {
    return std::adjacent_find(each.begin(), each.end(), std::not_equal_to<>()) == each.end();
  };
  return std::all_of(artifact.layers.begin(), artifact.layers.end(),
                     [&](const ArtifactLayer& l) { return alike(l.own) && alike(l.own_scale); });
}

absl::StatusOr<std::vector<float>> EmbeddingOf(const Checkpoint& dense) {
  std::vector<float> embedding(static_cast<size_t>(dense.spec().vocab_size) * dense.spec().hidden);
  RETURN_IF_ERROR(dense.Read("model.embed_tokens.weight", absl::MakeSpan(embedding)));
  return embedding;
}

at::Tensor WindowIds(const Corpus& corpus, int first, int num, at::Device device) {
  const int64_t t = corpus.window_tokens;
  return at::from_blob(const_cast<TokenId*>(corpus.tokens.data()) + first * t, {num, t}, at::kInt)
      .to(device, at::kLong);
}

ParentSays AskParent(const CausalModel& parent, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  return {parent.ComputeLogits(parent.Hidden(ids, {}))};
}

TokenLosses LossesOf(const ParentSays& says, const ParentSays& parent, const at::Tensor& ids) {
  const int64_t windows = ids.size(0), tokens = ids.size(1);
  const at::Tensor next = ids.roll(-1, 1).reshape({-1});
  const RowLosses rows = RowLossesOf(says.logits, parent.logits, next);
  at::Tensor counts = at::ones({tokens}, rows.nll.options());
  counts[tokens - 1] = 0;
  TokenLosses out{.nll = rows.nll.view({windows, tokens}) * counts};
  if (rows.divergence.defined()) out.divergence = rows.divergence.view({windows, tokens});
  return out;
}

TokenLosses LossesOf(const CausalModel& model, const ParentSays& parent, const at::Tensor& ids,
                     const at::Tensor& routes, const CausalModel::FfnVisit& visit) {
  return LossesOf({model.ComputeLogits(model.Hidden(ids, routes, visit))}, parent, ids);
}

}  // namespace pregate

#include "refactor/expert_model.h"

#include <torch/cuda.h>

#include <algorithm>
#include <functional>

#include "common/base/status.h"

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

at::Tensor WindowIds(const Corpus& corpus, int first, int num, at::Device device) {
  const int64_t t = corpus.window_tokens;
  return at::from_blob(const_cast<TokenId*>(corpus.tokens.data()) + first * t, {num, t}, at::kInt)
      .to(device, at::kLong);
}

ParentSays AskParent(const CausalModel& parent, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const at::Tensor log_p = parent.Logits(parent.Hidden(ids, {})).log_softmax(-1);
  ParentSays says{.p = log_p.exp()};
  says.log_p_mean = (says.p * log_p).sum(-1);
  return says;
}

TokenLosses LossesOf(const CausalModel& model, const ParentSays& parent, const at::Tensor& ids,
                     const at::Tensor& routes, const CausalModel::FfnVisit& visit) {
  const int64_t windows = ids.size(0), tokens = ids.size(1);
  TokenLosses out;
  const at::Tensor log_q = model.Logits(model.Hidden(ids, routes, visit)).log_softmax(-1);
  if (parent.p.defined()) {
    out.divergence = (parent.log_p_mean - (parent.p * log_q).sum(-1)).view({windows, tokens});
  }
  const at::Tensor next = ids.roll(-1, 1).reshape({-1, 1});
  const at::Tensor nll = -log_q.gather(1, next).view({windows, tokens});
  at::Tensor counts = at::ones({tokens}, nll.options());
  counts[tokens - 1] = 0;
  out.nll = nll * counts;
  return out;
}

}  // namespace pregate

// An artifact's experts as a CausalModel, and what one of its passes says of each token. Only
// LibTorch's users include this.
#pragma once

#include "refactor/artifact.h"
#include "refactor/causal_model.h"
#include "refactor/corpus.h"

namespace pregate {

// How a model is run: in f32 on the CPU, products in bf16 on CUDA. InvalidArgument where the device
// is not there.
struct TorchPlace {
  at::Device device = at::kCPU;
  at::ScalarType compute = at::kFloat;
};
absl::StatusOr<TorchPlace> PlaceOf(const std::string& device);

// The dense model plus the artifact's deltas, cut by its gains. Weights are in `dtype`.
absl::StatusOr<CausalModel> LoadExperts(const Checkpoint& dense, const Artifact& artifact,
                                        int window_tokens, const TorchPlace& place,
                                        at::ScalarType dtype);

// Whether all experts keep the same neurons with the same scales: then none needs a router.
bool ExpertsAlike(const Artifact& artifact);

// Windows [first, first + num) of a corpus, [num, window_tokens] of longs.
at::Tensor WindowIds(const Corpus& corpus, int first, int num, at::Device device);

// [vocab, hidden] in f32, which routers are trained on.
absl::StatusOr<std::vector<float>> EmbeddingOf(const Checkpoint& dense);

// [windows, window_tokens] each, f32.
struct TokenLosses {
  at::Tensor divergence;  // KL of the parent's next-token distribution and the model's
  at::Tensor nll;         // of the next token; 0 at a window's last
};
// What divergences from a parent on some windows need of it: its logits, [windows * window_tokens,
// vocab]; undefined: no divergence is wanted.
struct ParentSays {
  at::Tensor logits;
};
ParentSays AskParent(const CausalModel& parent, const at::Tensor& ids);  // without gradients

// Of what a model with these logits, in `says`, loses on the windows.
TokenLosses LossesOf(const ParentSays& says, const ParentSays& parent, const at::Tensor& ids);

// Keeps gradients where they are enabled.
TokenLosses LossesOf(const CausalModel& model, const ParentSays& parent, const at::Tensor& ids,
                     const at::Tensor& routes, const CausalModel::FfnVisit& visit = nullptr);

}  // namespace pregate

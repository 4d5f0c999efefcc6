// Distils the paper's router (docs/PAPER.md, "2. Router") from the experts' scores: it sees token
// ids only and learns which expert's own neurons hold most of the token's energy, layers summed.
//
// Its embedding is the first columns of the model's, scaled to unit mean square and frozen, so that
// it has few weights to learn and to carry. Its target is softmax(z / temperature), z the scores
// less their mean over experts in units of their deviation; a part `persistence` of z comes from
// the token before, so that a switch has to pay. Matrices are trained by Muon (momentum,
// orthogonalised by five Newton-Schulz steps; K. Jordan 2024), which needs half the steps of AdamW
// here; vectors and the head by AdamW. Causal attention logits are divided by sqrt(head_dim).
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/spec/spec.h"
#include "refactor/artifact.h"
#include "refactor/corpus.h"

namespace pregate {

struct RouterTrainOptions {
  int hidden = 384;  // fewer where the model is narrower
  int heads = 4;
  int intermediate = 512;
  int steps = 120;
  int batch_windows = 12;
  double temperature = 1;
  double persistence = 0.2;  // 0 .. 1
  double muon_rate = 0.06;
  double adam_rate = 1e-3;
  // The paper's training: matrices by AdamW too, `cycles` cosines with each peak 0.8 of the one
  // before, and, by its code, a loss of 0.75 of the cross-entropy with the best expert (label smoothing
  // 0.5) and 0.25 of that with the target.
  bool adam_alone = false;
  int cycles = 1;
  bool mixed_loss = false;
  uint64_t seed = 0;  // of weights and order of windows
  std::string device = "cpu";
};

struct TrainedRouter {
  RouterSpec spec;
  std::vector<int32_t> embed_columns;  // of the model's embedding, [spec.hidden]
  float embed_scale = 1;
  std::map<std::string, ArtifactTensor> tensors;  // by canonical name, all but the embedding
  // Over the calibration windows, after training.
  double kept_routes = 0;          // tokens whose route is the previous token's
  std::vector<double> expert_use;  // share of tokens, by expert
};

// The router of an artifact; what was measured while it was trained is not in there.
TrainedRouter RouterOf(const Artifact& artifact);

// `embedding` [vocab, width] of the model; `scores` [tokens of corpus, experts]. `advance` is
// called after each step. InvalidArgument where options do not fit the model. Uses LibTorch's
// threads; the same seed, machine and thread count give the same router.
absl::StatusOr<TrainedRouter> TrainRouter(absl::Span<const float> embedding, int width,
                                          const Corpus& corpus, absl::Span<const float> scores,
                                          int num_experts, float rope_theta,
                                          const RouterTrainOptions& options,
                                          const std::function<void()>& advance);

// The route of every token of `corpus`.
std::vector<int32_t> RouteTokens(const TrainedRouter& router, absl::Span<const float> embedding,
                                 int width, const Corpus& corpus, const std::string& device);

}  // namespace pregate

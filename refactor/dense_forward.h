// The dense model over calibration windows, far enough to see every FFN activation: no logits. The
// layers are those that serving runs, on a CPU device, but for the FFNs' products. LibTorch is
// confined to the .cc.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/formats/checkpoint.h"

namespace pregate {

// LibTorch's threads for all of this folder; its default is one. Process-wide, before any work.
void SetComputeThreads(int num_threads);

// Not thread-safe; uses LibTorch's threads. Holds the weights in f32.
class DenseForward {
 public:
  // The inputs of down_proj in one layer, silu(gate(x)) * up(x): [rows, intermediate], row by row
  // in the order of the tokens; valid during the call.
  using Visitor = std::function<absl::Status(int layer, absl::Span<const float> activations)>;

  // InvalidArgument when the checkpoint is an MoE already.
  static absl::StatusOr<std::unique_ptr<DenseForward>> Load(const Checkpoint& checkpoint);
  ~DenseForward();

  // tokens [windows, window_tokens]: independent windows, each attending to itself alone. Visits
  // the layers in order; stops at the first error. REQUIRES: ids < vocab_size.
  absl::Status Run(absl::Span<const TokenId> tokens, int window_tokens, const Visitor& visit) const;

  // [layers][intermediate]: squared norm of each column of down_proj.
  std::vector<std::vector<float>> DownNorms() const;
  // down_proj [hidden, intermediate] of a layer, and the embedding [vocab, hidden].
  absl::Span<const float> DownProj(int layer) const;
  absl::Span<const float> Embedding() const;

 private:
  struct State;
  explicit DenseForward(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace pregate

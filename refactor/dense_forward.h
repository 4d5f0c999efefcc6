// The dense model over calibration windows, far enough to see every FFN activation: no logits. The
// layers are those that serving runs, on a CPU device, but for the FFNs' products. LibTorch is
// confined to the .cc.
//
// FFNs are most of a model. Where they take more than kFfnBytesKept, each layer's are read again when
// a call reaches it, and a call takes more windows, so that reading costs less than computing.
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

inline constexpr int64_t kFfnBytesKept = int64_t{6} << 30;  // in f32

// Not thread-safe; uses LibTorch's threads. Holds weights in f32, and the checkpoint, which must
// outlive it.
class DenseForward {
 public:
  // The inputs of down_proj in one layer, silu(gate(x)) * up(x): [rows, intermediate], row by row
  // in the order of the tokens; and down_proj [hidden, intermediate]. Valid during the call.
  using Visitor = std::function<absl::Status(int layer, absl::Span<const float> activations,
                                             absl::Span<const float> down)>;

  // InvalidArgument when the checkpoint is an MoE already.
  static absl::StatusOr<std::unique_ptr<DenseForward>> Load(const Checkpoint& checkpoint,
                                                            int64_t ffn_bytes_kept = kFfnBytesKept);
  // Of the weights that a model of this spec has in memory at a time.
  static int64_t WeightBytes(const ModelSpec& spec, int64_t ffn_bytes_kept = kFfnBytesKept);
  ~DenseForward();

  // tokens [windows, window_tokens]: independent windows, each attending to itself alone. Visits
  // the layers in order; stops at the first error. REQUIRES: ids < vocab_size.
  absl::Status Run(absl::Span<const TokenId> tokens, int window_tokens, const Visitor& visit) const;
  // That a caller who has many best gives to a Run.
  int windows_at_a_time(int window_tokens) const;

  // [layers][intermediate]: squared norm of each column of down_proj.
  absl::StatusOr<std::vector<std::vector<float>>> DownNorms() const;
  absl::Span<const float> Embedding() const;  // [vocab, hidden]

 private:
  struct State;
  explicit DenseForward(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace pregate

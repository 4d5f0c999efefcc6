// The one forward pass of the backbone: every device runs this code.
//
//   h = m embedding[token], m: the spec's embedding_multiplier
//   per layer   AttentionHalf, then the feed-forward half (common/device/layer.h)
//   logits of chosen rows: Emit
//
// S and O are accumulated apart in f32, O is rounded to the wire type, then added in that order, so
// that one rank and several give the same bits (docs/CONTRACTS.md, "Numerics").
#pragma once

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "expert_service/engine/expert_part.h"
#include "expert_service/engine/model_weights.h"
#include "expert_service/engine/progress.h"

namespace pregate {

// What every layer's halves are told beside their weights.
struct LayerShapes {
  explicit LayerShapes(const ModelWeights& weights);
  std::vector<AttentionShape> attention;  // [num_layers]
  FfnShape ffn;                           // of all layers
};

// Owns the activations; not thread-safe. Everything borrowed outlives it.
class ForwardPass {
 public:
  // Steps of at most `tokens_max` tokens, logits of at most `logits_rows_max` rows a call.
  // `experts` is null for a dense model.
  static absl::StatusOr<std::unique_ptr<ForwardPass>> Create(Device* device,
                                                             const ModelWeights* weights,
                                                             ExpertPart* experts, int tokens_max,
                                                             int logits_rows_max);
  // What Create allocates.
  static int64_t Bytes(const Device& device, const ModelSpec& spec, ActType act, int tokens_max,
                       int logits_rows_max);

  // Runs the layers, those whose experts are there at once where the device does so; kv [num_layers].
  // ABORTED when `on_progress` (may be null), which is asked before them and after each, or after all
  // that run at once, stopped it.
  // REQUIRES: ExpertPart::BeginStep for this batch.
  absl::Status Run(const TokenBatch& batch, absl::Span<const KvLayer> kv,
                   const StepProgress& on_progress);

  // Device::Emit on the last Run's rows. Returns the logits [rows.max, vocab], valid until the next
  // call; args.logits is not looked at. REQUIRES: rows.max <= logits_rows_max.
  const float* Emit(EmitArgs args);

 private:
  ForwardPass(Device* device, const ModelWeights* weights, ExpertPart* experts);
  int LayersAtOnce(const TokenBatch& batch, absl::Span<const KvLayer> kv, int first, bool* refused);
  absl::Status RunLayer(const TokenBatch& batch, const KvLayer& kv, int layer);

  Device& device_;
  const ModelWeights& weights_;
  ExpertPart* const experts_;
  const LayerShapes shapes_;
  std::vector<LayerCall> calls_;  // of LayersAtOnce
  DeviceBuffer residual_;         // [tokens, hidden] f32
  DeviceBuffer buffer_;           // workspace_'s
  LayerWorkspace workspace_;
};

}  // namespace pregate

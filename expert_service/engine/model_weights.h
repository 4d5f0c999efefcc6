// A checkpoint's backbone in a device's packed form.
//
//   model.embed_tokens, norm, lm_head   → embedding, head (one matrix when tied); the norm's weights
//                                         are divided by the spec's logits_divisor
//   self_attn.{q,k,v}_proj              → attention.qkv, rows stacked in that order; attention.o
//   self_attn.{q,k}_norm                → attention.head_norms
//   mlp of a dense layer, mlp.shared    → ffn's shared unit
//
// The experts are ExpertStore's.
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/progress.h"

namespace pregate {

struct LayerWeights {
  AttentionWeights attention;
  FfnWeights ffn;
};

struct WeightsOptions {
  StepTypes types;
  int context_tokens = 0;  // of the longest sequence: it decides on the frequencies of LongRoPE
  bool with_ffn = true;    // false: ffn has its norm and its shapes alone
  int threads = 0;         // that read; 0: one a hardware thread
};

// Immutable after Load. Owns its device memory; the device outlives it.
class ModelWeights {
 public:
  static absl::StatusOr<std::unique_ptr<ModelWeights>> Load(const Checkpoint& checkpoint,
                                                            Device* device,
                                                            const WeightsOptions& options,
                                                            const LoadProgress& progress);

  const ModelSpec& spec() const { return spec_; }
  const StepTypes& types() const { return types_; }
  const Matrix& embedding() const { return embedding_; }
  const EmitHead& head() const { return head_; }
  const RopeShape& rope() const { return rope_; }
  absl::Span<const LayerWeights> layers() const { return layers_; }

 private:
  friend class WeightsLoader;
  ModelWeights() = default;

  ModelSpec spec_;
  StepTypes types_;
  Matrix embedding_;
  EmitHead head_;
  RopeShape rope_;
  std::vector<LayerWeights> layers_;
  std::vector<DeviceBuffer> buffers_;
};

}  // namespace pregate

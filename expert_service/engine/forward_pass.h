// The one forward pass of the backbone, over Device operations only: every device runs this code.
//
//   h = embedding[token]
//   per layer   x   = act(rmsnorm(h))
//               qkv = x · Wqkv;  k, v → paged KV;  a = attention(rope(q), KV)
//               h  += a · Wo
//               x   = act(rmsnorm(h))
//               h  += S(x) + round(O(x))      S: the resident part, O: the part of the token's
//               expert
//   logits of chosen rows: act(rmsnorm(h)) · Wlogits
//
// MLP numerics (DESIGN section 5): S and O are accumulated apart in f32, O is rounded to the wire type,
// then added in that order, so that one rank and several give the same bits.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "expert_service/engine/expert_part.h"
#include "expert_service/engine/model_weights.h"
#include "expert_service/engine/progress.h"

namespace pregate {

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

  // Runs the layers; kv [num_layers]. ABORTED when `on_progress` (may be null) stopped it.
  // REQUIRES: ExpertPart::BeginStep for this batch.
  absl::Status Run(const TokenBatch& batch, absl::Span<const KvLayer> kv,
                   const StepProgress& on_progress);

  // Logits of the last Run's rows index[0..rows): returns [rows.max, vocab], valid until the next
  // call. REQUIRES: rows.max <= logits_rows_max.
  const float* Logits(RowCount rows, const int32_t* index);

 private:
  struct Buffers {
    DeviceBuffer h;    // [tokens, hidden] residual stream
    DeviceBuffer act;  // [tokens, max(hidden, heads * head_dim)] inputs of matrix products
    DeviceBuffer qkv;  // [tokens, (heads + 2 kv_heads) * head_dim]
    DeviceBuffer q;    // [tokens, heads * head_dim]
    DeviceBuffer y;    // [tokens, hidden] output of attention, then of the resident part
    DeviceBuffer own;  // [tokens, hidden] output of the experts' parts
    DeviceBuffer
        zeros;  // [tokens, hidden] the resident part of a layer that has none; [tokens] routes 0
    DeviceBuffer resident_offsets, resident_order;  // one group of all tokens
    DeviceBuffer rows;                              // [logits rows, hidden]
    DeviceBuffer logits;                            // [logits rows, vocab]
  };

  ForwardPass(Device* device, const ModelWeights* weights, ExpertPart* experts);
  void Attention(const TokenBatch& batch, const LayerWeights& layer, const KvLayer& kv);
  absl::Status Mlp(const TokenBatch& batch, int l);
  ExpertGroups resident_groups() const;

  Device& device_;
  const ModelWeights& weights_;
  ExpertPart* const experts_;
  const ModelSpec& spec_;
  const QkvArgs qkv_args_;
  Buffers buffers_;
};

}  // namespace pregate

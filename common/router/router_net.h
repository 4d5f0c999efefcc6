// The paper's router (docs/PAPER.md, "2. Router"): a small autoregressive network over token ids
// that names one expert a token, the same in every layer of the backbone.
//
//   h = embed(ids)
//   per layer: q, k, v = Linear(RMSNorm(h)); h += o(softmax(rope(q) rope(k)^T / normalizer) v)
//              h += proj_2(act(proj_1(RMSNorm(h))))
//   logits = proj_out(RMSNorm(h)); route = argmax, the lowest id of ties
//
// Everything is f32 and every linear has a bias. The same code runs in the router service and in
// the worker's replica. The device is batch-invariant (common/device/device.h), so routing a
// sequence in any chunks, beside any other sequences, gives the bits of routing its full prefix at
// once.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "common/router/router_weights.h"

namespace pregate {

// Not thread-safe: the thread that enqueues on the device calls it. Borrows the device.
class RouterNet {
 public:
  // Reads the weights and allocates activations for `tokens_max` tokens a call.
  static absl::StatusOr<std::unique_ptr<RouterNet>> Load(const Checkpoint& checkpoint,
                                                         Device& device, int tokens_max);

  int num_layers() const { return static_cast<int>(weights_.layers.size()); }
  int num_experts() const { return weights_.head.logits.outputs; }
  int vocab_size() const { return weights_.embed.outputs; }
  int tokens_max() const { return tokens_max_; }
  // SHA-256 of shapes and values: two processes with equal digests have the same router.
  const std::string& digest() const { return weights_.digest; }
  // Weights and activations; KV is the caller's.
  size_t device_bytes() const;

  // The shape of one layer's keys and values (data is null), and the bytes of one layer and of all.
  KvLayer KvShape(int num_blocks) const;
  size_t KvLayerBytes(int num_blocks) const;
  size_t KvBytes(int num_blocks) const { return KvLayerBytes(num_blocks) * num_layers(); }

  // Routes the batch. A sequence's earlier positions are in `kv`, or come before in the batch.
  // kv [num_layers]; logits_out [rows.max, experts] device, may be null; routes_out [rows.max]
  // device. REQUIRES: batch.rows.max <= tokens_max(), token ids < vocab_size(), blocks for every
  // position.
  void Forward(const TokenBatch& batch, absl::Span<const KvLayer> kv, float* logits_out,
               int32_t* routes_out);

  // Stores the batch's keys and values and nothing else, for tokens whose routes are already known:
  // the last layer's attention, its MLP and the head are left out.
  void FillKv(const TokenBatch& batch, absl::Span<const KvLayer> kv);

 private:
  RouterNet(const RouterSpec& spec, Device& device, int tokens_max, RouterWeights weights);
  absl::Status AllocateActivations();
  void Layer(const TokenBatch& batch, int layer, const KvLayer& kv);
  void Check(const TokenBatch& batch, absl::Span<const KvLayer> kv) const;

  Device& device_;
  const int tokens_max_;
  const RouterWeights weights_;
  const AttentionShape attention_;
  const MlpShape mlp_;
  DeviceBuffer residual_;  // [tokens_max, hidden] f32
  DeviceBuffer buffer_;    // workspace_'s
  LayerWorkspace workspace_;
};

}  // namespace pregate

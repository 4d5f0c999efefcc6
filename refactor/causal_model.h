// A decoder as a differentiable function, in LibTorch's operations on any of its devices: each
// architecture of docs/MODELS.md, from the spec's traits. Only LibTorch's users include this.
//
// Which neurons of a layer a token runs is a matter of gains: [experts, intermediate], the factor
// of each neuron's activation under each expert, 0 where the expert drops it. So all experts are
// one set of weights, and a dense model is the case without gains.
//
// A token's expert is given, the same in all layers, or is each layer's own choice. Then layer l
// with the FFN's input x and a router W_l has z = W_l x, p = softmax(z) and the gate
//     g = onehot(argmax z) + (p - stop_gradient(p)),
// of which the gains are the mixture sum_e g_e gains_e: the one chosen expert's, unscaled, and on
// the way back the gradient of the mixture by p (straight-through, Bengio et al. 2013,
// arXiv 1308.3432).
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/formats/checkpoint.h"
#include "refactor/weight_delta.h"

namespace pregate {

using NamedTensors = std::map<std::string, at::Tensor>;  // by canonical name

// Keys and values of the first `tokens` tokens of some windows, for those that follow.
struct KeyValueCache {
  int64_t tokens = 0;
  std::vector<at::Tensor> keys, values;  // [layers] of [windows, kv heads, window_tokens, head_dim]
};

// Not thread-safe. Copies share their weights.
class CausalModel {
 public:
  // Weights in `dtype` on `device`; products are computed in `compute`, the residual stream, norms
  // and softmax in f32. `deltas` are added to the weights. InvalidArgument where the
  // checkpoint is an MoE already.
  static absl::StatusOr<CausalModel> Load(const Checkpoint& checkpoint, int window_tokens,
                                          at::Device device, at::ScalarType dtype,
                                          at::ScalarType compute,
                                          const WeightDeltas* deltas = nullptr);

  // ids [windows, window_tokens] of longs → final norm's outputs [windows * window_tokens, hidden].
  // `routes` [windows, window_tokens] of longs name each token's expert; undefined: each layer's own
  // choice where layers have routers, else the dense model. `visit` is called with the FFN's input
  // [windows * window_tokens, hidden], layer by layer.
  //
  // With a cache, of any number of tokens: `ids` are those behind the cache's, which they see and
  // are appended to. Without gradients only. REQUIRES: all fit into a window.
  using FfnVisit = std::function<void(int layer, const at::Tensor& input)>;
  at::Tensor Hidden(const at::Tensor& ids, const at::Tensor& routes,
                    const FfnVisit& visit = nullptr, KeyValueCache* cache = nullptr) const;
  // An empty one, of a whole window's room.
  KeyValueCache MakeCache(int64_t windows) const;
  int64_t CacheBytes() const;  // of a window
  // rows [n, hidden] of Hidden → [n, vocab], in `compute` or in f32.
  at::Tensor ComputeLogits(const at::Tensor& rows) const;
  at::Tensor Logits(const at::Tensor& rows) const { return ComputeLogits(rows).to(at::kFloat); }

  // [layers] of [experts, intermediate].
  void SetGains(std::vector<at::Tensor> gains) { gains_ = std::move(gains); }
  // [layers] of [experts, hidden], f32. REQUIRES: gains.
  void SetLayerRouters(std::vector<at::Tensor> routers) { layer_routers_ = std::move(routers); }

  const ModelSpec& spec() const { return spec_; }
  int window_tokens() const { return window_tokens_; }
  const NamedTensors& weights() const { return weights_; }
  NamedTensors& weights() { return weights_; }

 private:
  CausalModel(const ModelSpec& spec, int window_tokens, at::Device device, at::ScalarType compute);

  const at::Tensor& Weight(const std::string& name) const { return weights_.at(name); }
  at::Tensor Linear(const at::Tensor& x, const std::string& name) const;
  at::Tensor Attention(int layer, const at::Tensor& x, int64_t tokens, KeyValueCache* cache) const;
  at::Tensor MaskedAttention(int layer, const at::Tensor& q, const at::Tensor& k,
                             const at::Tensor& v, int64_t before) const;
  at::Tensor Ffn(int layer, const at::Tensor& x, const at::Tensor& routes) const;
  at::Tensor AddTo(const at::Tensor& x, const at::Tensor& out) const;
  at::Tensor Gate(int layer, const at::Tensor& x) const;
  at::Tensor Positions(const at::Tensor& heads, int64_t first) const;

  ModelSpec spec_;
  int window_tokens_;
  at::ScalarType compute_;
  NamedTensors weights_;
  std::vector<at::Tensor> gains_, layer_routers_;
  at::Tensor cos_, sin_;           // [window_tokens, rotated channels / 2]
  std::vector<at::Tensor> masks_;  // [layers] of [tokens, tokens], added to the scores
};

}  // namespace pregate

#include "refactor/causal_model.h"

#include <limits>

#include "common/base/status.h"
#include "common/model/spec/tensor_names.h"
#include "refactor/fused_ops.h"
#include "refactor/torch_ops.h"

namespace pregate {
namespace {

// 0 where a token sees the key, -inf elsewhere. window 0: all keys up to its own.
at::Tensor AttentionMask(int tokens, int window, at::Device device) {
  const at::Tensor at_row = at::arange(tokens, at::kLong).unsqueeze(1);
  const at::Tensor at_key = at::arange(tokens, at::kLong).unsqueeze(0);
  at::Tensor hidden = at_key.gt(at_row);
  if (window > 0) hidden = hidden.logical_or(at_key.le(at_row - window));
  return at::zeros({tokens, tokens}, at::kFloat)
      .masked_fill(hidden, -std::numeric_limits<float>::infinity())
      .to(device);
}

std::string LayerPrefix(int layer) { return absl::StrCat("model.layers.", layer, "."); }

}  // namespace

CausalModel::CausalModel(const ModelSpec& spec, int window_tokens, at::Device device,
                         at::ScalarType compute)
    : spec_(spec), window_tokens_(window_tokens), compute_(compute) {
  RopeFrequencies rope = RopeOf(spec, window_tokens);
  const at::Tensor angles =
      at::outer(at::arange(window_tokens, at::kFloat),
                at::from_blob(rope.inv_freq.data(), {static_cast<int64_t>(rope.inv_freq.size())},
                              at::kFloat));
  cos_ = (angles.cos() * rope.scale).to(device);
  sin_ = (angles.sin() * rope.scale).to(device);
  std::map<int, at::Tensor> masks;
  for (int l = 0; l < spec.num_layers; ++l) {
    at::Tensor& mask = masks[spec.window(l)];
    if (!mask.defined()) mask = AttentionMask(window_tokens, spec.window(l), device);
    masks_.push_back(mask);
  }
}

absl::StatusOr<CausalModel> CausalModel::Load(const Checkpoint& checkpoint, int window_tokens,
                                              at::Device device, at::ScalarType dtype,
                                              at::ScalarType compute, const WeightDeltas* deltas) {
  const ModelSpec& spec = checkpoint.spec();
  if (spec.is_moe()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.path(), " has ", spec.num_experts,
                                                   " experts; a dense model is needed"));
  }
  if (window_tokens > spec.max_position) {
    return absl::InvalidArgumentError(absl::StrCat(
        "window-tokens ", window_tokens, " is beyond the model's context of ", spec.max_position));
  }
  CausalModel model(spec, window_tokens, device, compute);
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    at::Tensor values = at::empty(tensor.shape, at::kFloat);
    const auto floats =
        absl::MakeSpan(values.data_ptr<float>(), static_cast<size_t>(values.numel()));
    RETURN_IF_ERROR(checkpoint.Read(tensor.name, floats));
    if (deltas != nullptr && deltas->contains(tensor.name)) {
      AddDelta(deltas->at(tensor.name), floats);
    }
    const bool matrix = tensor.shape.size() > 1;
    model.weights_[tensor.name] = values.to(device, matrix ? dtype : at::kFloat);
  }
  return model;
}

at::Tensor CausalModel::Linear(const at::Tensor& x, const std::string& name) const {
  const auto bias = weights_.find(name + ".bias");
  return at::linear(x.to(compute_), Weight(name + ".weight").to(compute_),
                    bias == weights_.end() ? at::Tensor() : bias->second.to(compute_));
}

// heads [windows, tokens, heads, head_dim] of the positions from `first` on → the same, the first
// rope_dims() channels turned, in f32 or by the fused operation.
at::Tensor CausalModel::Positions(const at::Tensor& heads, int64_t first) const {
  const int64_t turned = spec_.rope_dims(), rest = heads.size(-1) - turned;
  if (TakesFused(heads, turned)) return FusedRope(heads, cos_, sin_, first);
  const at::Tensor x = heads.to(at::kFloat);
  const at::Tensor cos = cos_.narrow(0, first, x.size(1)).unsqueeze(1);
  const at::Tensor sin = sin_.narrow(0, first, x.size(1)).unsqueeze(1);
  if (rest == 0) return Rope(x, cos, sin);
  return at::cat({Rope(x.narrow(-1, 0, turned), cos, sin), x.narrow(-1, turned, rest)}, -1);
}

at::Tensor CausalModel::Attention(int layer, const at::Tensor& x, int64_t tokens,
                                  KeyValueCache* cache) const {
  const std::string p = LayerPrefix(layer) + "self_attn.";
  const int64_t t = tokens, b = x.size(0) / t, d = spec_.head_dim;
  const int64_t before = cache == nullptr ? 0 : cache->tokens, seen = before + t;
  const int64_t kv = spec_.num_kv_heads;
  const at::Tensor input = x.to(compute_);
  const auto heads = [&](const char* name, int64_t n) {
    return Linear(input, p + name).view({b, t, n, d});
  };
  at::Tensor q = heads("q_proj", spec_.num_heads), k = heads("k_proj", kv);
  if (spec_.qk_norm) {
    q = RmsNorm(q.to(at::kFloat), Weight(p + "q_norm.weight"), spec_.rms_eps);
    k = RmsNorm(k.to(at::kFloat), Weight(p + "k_norm.weight"), spec_.rms_eps);
  }
  if (spec_.has_rope(layer)) {
    q = Positions(q, before);
    k = Positions(k, before);
  }
  q = q.transpose(1, 2).to(compute_);
  k = k.transpose(1, 2).to(compute_);
  at::Tensor v = heads("v_proj", kv).transpose(1, 2);
  if (cache != nullptr) {
    const auto append = [&](at::Tensor& all, const at::Tensor& now) {
      all.narrow(2, before, t).copy_(now);
      return all.narrow(2, 0, seen);
    };
    k = append(cache->keys[layer], k);
    v = append(cache->values[layer], v);
  }
#if PREGATE_TORCH_FUSES
  const bool sees_all = spec_.window(layer) == 0 || spec_.window(layer) >= window_tokens_;
  const at::Tensor mixed = sees_all && (t == seen || t == 1)
                               ? CausalAttention(q, k, v, spec_.attention_scale())
                               : MaskedAttention(layer, q, k, v, before);
#else
  const at::Tensor mixed = MaskedAttention(layer, q, k, v, before);
#endif
  return Linear(mixed.transpose(1, 2).reshape({b * t, -1}), p + "o_proj");
}

// q [windows, heads, tokens, head_dim] of the positions from `before` on; k and v of all.
at::Tensor CausalModel::MaskedAttention(int layer, const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, int64_t before) const {
  const int64_t b = q.size(0), heads = q.size(1), t = q.size(2), d = q.size(3);
  const int64_t kv = k.size(1), group = heads / kv, seen = k.size(2);
  // The heads of one key and value head are further rows of its product.
  const at::Tensor scaled = (q.to(at::kFloat) * spec_.attention_scale()).to(compute_);
  const at::Tensor scores = at::matmul(scaled.reshape({b, kv, group * t, d}), k.transpose(2, 3))
                                .view({b, kv, group, t, seen})
                                .to(at::kFloat);
  const at::Tensor mask = masks_[layer].narrow(0, before, t).narrow(1, 0, seen);
  const at::Tensor weights =
      (scores + mask).softmax(-1).to(compute_).view({b, kv, group * t, seen});
  return at::matmul(weights, v).view({b, heads, t, d});
}

// [rows, experts]: g of the header.
at::Tensor CausalModel::Gate(int layer, const at::Tensor& x) const {
  const at::Tensor logits = at::linear(x, layer_routers_[layer]);
  const at::Tensor p = logits.softmax(-1);
  const at::Tensor chosen = at::zeros_like(p).scatter_(1, logits.argmax(-1, /*keepdim=*/true), 1.0);
  return chosen + (p - p.detach());
}

at::Tensor CausalModel::Ffn(int layer, const at::Tensor& x, const at::Tensor& routes) const {
  const std::string p = LayerPrefix(layer) + "mlp.";
  const at::Tensor input = x.to(compute_);
  const at::Tensor gate = Linear(input, p + "gate_proj"), up = Linear(input, p + "up_proj");
  const bool chosen = !routes.defined() && !layer_routers_.empty();
  if (!chosen && TakesFused(gate, gate.size(1))) {
    const at::Tensor& gains = routes.defined() ? gains_[layer] : routes;
    return Linear(FusedGated(gate, up, gains, routes), p + "down_proj");
  }
  at::Tensor a = at::silu(gate) * up;
  if (routes.defined()) {
    a = a * gains_[layer].to(compute_).index_select(0, routes);
  } else if (chosen) {
    a = a * at::matmul(Gate(layer, x).to(compute_), gains_[layer].to(compute_));
  }
  return Linear(a, p + "down_proj");
}

at::Tensor CausalModel::AddTo(const at::Tensor& x, const at::Tensor& out) const {
  if (spec_.residual_multiplier == 1) return x + out;
  return x + out.to(at::kFloat) * spec_.residual_multiplier;
}

at::Tensor CausalModel::Hidden(const at::Tensor& ids, const at::Tensor& routes,
                               const FfnVisit& visit, KeyValueCache* cache) const {
  const int64_t tokens = ids.size(1);
  PREGATE_CHECK(cache == nullptr ? tokens == window_tokens_
                                 : cache->tokens + tokens <= window_tokens_);
  const bool gated = routes.defined() || !layer_routers_.empty();
  PREGATE_CHECK(!gated || static_cast<int>(gains_.size()) == spec_.num_layers);
  const at::Tensor flat = routes.defined() ? routes.reshape({-1}) : routes;
  at::Tensor x =
      Weight("model.embed_tokens.weight").index_select(0, ids.reshape({-1})).to(at::kFloat) *
      spec_.embedding_multiplier;
  for (int l = 0; l < spec_.num_layers; ++l) {
    const std::string p = LayerPrefix(l);
    const at::Tensor a = RmsNorm(x, Weight(p + "input_layernorm.weight"), spec_.rms_eps);
    x = AddTo(x, Attention(l, a, tokens, cache));
    const at::Tensor f = RmsNorm(x, Weight(p + "post_attention_layernorm.weight"), spec_.rms_eps);
    if (visit != nullptr) visit(l, f);
    x = AddTo(x, Ffn(l, f, flat));
  }
  if (cache != nullptr) cache->tokens += tokens;
  return RmsNorm(x, Weight("model.norm.weight"), spec_.rms_eps);
}

KeyValueCache CausalModel::MakeCache(int64_t windows) const {
  const auto options = at::TensorOptions().dtype(compute_).device(cos_.device());
  KeyValueCache cache;
  for (auto* const each : {&cache.keys, &cache.values}) {
    for (int l = 0; l < spec_.num_layers; ++l) {
      each->push_back(
          at::zeros({windows, spec_.num_kv_heads, window_tokens_, spec_.head_dim}, options));
    }
  }
  return cache;
}

int64_t CausalModel::CacheBytes() const {
  return int64_t{2} * spec_.num_layers * spec_.num_kv_heads * window_tokens_ * spec_.head_dim *
         static_cast<int64_t>(c10::elementSize(compute_));
}

at::Tensor CausalModel::ComputeLogits(const at::Tensor& rows) const {
  const char* head = spec_.tie_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  const at::Tensor logits = at::linear(rows.to(compute_), Weight(head).to(compute_));
  return spec_.logits_divisor == 1 ? logits : logits / spec_.logits_divisor;
}

}  // namespace pregate

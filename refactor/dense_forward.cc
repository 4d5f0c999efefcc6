#include "refactor/dense_forward.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

#include "common/base/status.h"
#include "refactor/torch_ops.h"

namespace pregate {
namespace {

absl::StatusOr<at::Tensor> ReadTensor(const Checkpoint& checkpoint, const std::string& name,
                                      at::IntArrayRef shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  RETURN_IF_ERROR(checkpoint.Read(
      name, absl::MakeSpan(tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel()))));
  return tensor;
}

absl::Span<const float> View(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace

struct DenseForward::Weights {
  struct Layer {
    at::Tensor attn_norm, q, k, v, o, ffn_norm, gate, up, down;
  };
  at::Tensor embed;
  std::vector<Layer> layers;
};

void SetComputeThreads(int num_threads) { at::set_num_threads(num_threads); }

DenseForward::DenseForward(const ModelSpec& spec, std::unique_ptr<Weights> weights)
    : spec_(spec), weights_(std::move(weights)) {}
DenseForward::~DenseForward() = default;

absl::StatusOr<std::unique_ptr<DenseForward>> DenseForward::Load(const Checkpoint& checkpoint) {
  const ModelSpec& spec = checkpoint.spec();
  if (spec.is_moe()) {
    return absl::InvalidArgumentError(absl::StrCat(checkpoint.path(), " has ", spec.num_experts,
                                                   " experts; a dense model is needed"));
  }
  const int64_t hidden = spec.hidden, intermediate = spec.intermediate;
  const int64_t q_width = int64_t{spec.num_heads} * spec.head_dim;
  const int64_t kv_width = int64_t{spec.num_kv_heads} * spec.head_dim;
  auto weights = std::make_unique<Weights>();
  ASSIGN_OR_RETURN(weights->embed,
                   ReadTensor(checkpoint, "model.embed_tokens.weight", {spec.vocab_size, hidden}));
  for (int l = 0; l < spec.num_layers; ++l) {
    const std::string p = absl::StrCat("model.layers.", l, ".");
    Weights::Layer w;
    const auto read = [&](const char* name, at::IntArrayRef shape, at::Tensor& to) {
      ASSIGN_OR_RETURN(to, ReadTensor(checkpoint, p + name, shape));
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(read("input_layernorm.weight", {hidden}, w.attn_norm));
    RETURN_IF_ERROR(read("self_attn.q_proj.weight", {q_width, hidden}, w.q));
    RETURN_IF_ERROR(read("self_attn.k_proj.weight", {kv_width, hidden}, w.k));
    RETURN_IF_ERROR(read("self_attn.v_proj.weight", {kv_width, hidden}, w.v));
    RETURN_IF_ERROR(read("self_attn.o_proj.weight", {hidden, q_width}, w.o));
    RETURN_IF_ERROR(read("post_attention_layernorm.weight", {hidden}, w.ffn_norm));
    RETURN_IF_ERROR(read("mlp.gate_proj.weight", {intermediate, hidden}, w.gate));
    RETURN_IF_ERROR(read("mlp.up_proj.weight", {intermediate, hidden}, w.up));
    RETURN_IF_ERROR(read("mlp.down_proj.weight", {hidden, intermediate}, w.down));
    weights->layers.push_back(std::move(w));
  }
  return std::unique_ptr<DenseForward>(new DenseForward(spec, std::move(weights)));
}

absl::Status DenseForward::Run(absl::Span<const TokenId> tokens, int window_tokens,
                               const Visitor& visit) const {
  const at::NoGradGuard no_grad;
  const int64_t t = window_tokens, b = static_cast<int64_t>(tokens.size()) / t;
  const int64_t heads = spec_.num_heads, kv_heads = spec_.num_kv_heads, dim = spec_.head_dim;
  PREGATE_CHECK(b * t == static_cast<int64_t>(tokens.size()));

  std::vector<float> inverse =
      RopeInverseFrequencies(spec_.head_dim, spec_.rope_theta, spec_.rope_scaling);
  const at::Tensor angles =
      at::outer(at::arange(t, at::kFloat), at::from_blob(inverse.data(), {dim / 2}, at::kFloat));
  const at::Tensor cos = angles.cos(), sin = angles.sin();
  const at::Tensor causal =
      at::full({t, t}, -std::numeric_limits<float>::infinity(), at::kFloat).triu(1);
  const at::Tensor ids =
      at::from_blob(const_cast<TokenId*>(tokens.data()), {b * t}, at::kInt).to(at::kLong);

  at::Tensor x = weights_->embed.index_select(0, ids);
  for (int l = 0; l < spec_.num_layers; ++l) {
    const Weights::Layer& w = weights_->layers[l];
    const at::Tensor a = RmsNorm(x, w.attn_norm, spec_.rms_eps);
    const auto split = [&](const at::Tensor& y, int64_t n) {
      return y.view({b, t, n, dim}).transpose(1, 2);
    };
    const at::Tensor q = Rope(split(at::linear(a, w.q), heads), cos, sin);
    const at::Tensor k = Rope(split(at::linear(a, w.k), kv_heads), cos, sin);
    const at::Tensor v = split(at::linear(a, w.v), kv_heads);
    const at::Tensor scores =
        at::matmul(q, k.repeat_interleave(heads / kv_heads, 1).transpose(2, 3))
            .mul_(1 / std::sqrt(static_cast<double>(dim)))
            .add_(causal)
            .softmax(-1);
    const at::Tensor mixed = at::matmul(scores, v.repeat_interleave(heads / kv_heads, 1))
                                 .transpose(1, 2)
                                 .reshape({b * t, heads * dim});
    x.add_(at::linear(mixed, w.o));

    const at::Tensor f = RmsNorm(x, w.ffn_norm, spec_.rms_eps);
    const at::Tensor h = at::silu(at::linear(f, w.gate)).mul_(at::linear(f, w.up));
    RETURN_IF_ERROR(visit(l, View(h)));
    if (l + 1 < spec_.num_layers) x.add_(at::linear(h, w.down));
  }
  return absl::OkStatus();
}

std::vector<std::vector<float>> DenseForward::DownNorms() const {
  std::vector<std::vector<float>> out;
  for (const Weights::Layer& w : weights_->layers) {
    const at::Tensor norms = w.down.square().sum(0);
    const auto view = View(norms);
    out.emplace_back(view.begin(), view.end());
  }
  return out;
}

absl::Span<const float> DenseForward::DownProj(int layer) const {
  return View(weights_->layers[layer].down);
}

absl::Span<const float> DenseForward::Embedding() const { return View(weights_->embed); }

}  // namespace pregate

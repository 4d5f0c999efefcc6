#include "common/router/router_net.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace pregate {
namespace {

constexpr ActType kAct = ActType::kF32;
constexpr KvType kKv = KvType::kF32;

}  // namespace

RouterNet::RouterNet(const RouterSpec& spec, Device& device, int tokens_max, RouterWeights weights)
    : spec_(spec),
      device_(device),
      tokens_max_(tokens_max),
      weights_(std::move(weights)),
      qkv_args_{spec.num_heads, spec.num_heads, spec.head_dim(), weights_.inv_freq} {}

absl::StatusOr<std::unique_ptr<RouterNet>> RouterNet::Load(const Checkpoint& checkpoint,
                                                           Device& device, int tokens_max) {
  if (tokens_max < 1) {
    return absl::InvalidArgumentError(absl::StrCat("tokens_max: ", tokens_max, " is below 1"));
  }
  ASSIGN_OR_RETURN(RouterWeights weights, LoadRouterWeights(checkpoint, device));
  std::unique_ptr<RouterNet> net(
      new RouterNet(*checkpoint.spec().router, device, tokens_max, std::move(weights)));
  RETURN_IF_ERROR(net->AllocateActivations());
  return net;
}

absl::Status RouterNet::AllocateActivations() {
  const size_t rows = tokens_max_;
  const size_t hidden = spec_.hidden, intermediate = spec_.intermediate;
  ASSIGN_OR_RETURN(buf_.residual, device_.Allocate(rows * hidden * sizeof(float)));
  ASSIGN_OR_RETURN(
      buf_.act, device_.Allocate(rows * std::max(hidden, intermediate) * device_.act_bytes(kAct)));
  ASSIGN_OR_RETURN(buf_.wide,
                   device_.Allocate(rows * std::max(3 * hidden, intermediate) * sizeof(float)));
  ASSIGN_OR_RETURN(buf_.query, device_.Allocate(rows * hidden * sizeof(float)));
  ASSIGN_OR_RETURN(buf_.logits, device_.Allocate(rows * num_experts() * sizeof(float)));
  return absl::OkStatus();
}

size_t RouterNet::device_bytes() const {
  return weights_.device_bytes + buf_.residual.bytes() + buf_.act.bytes() + buf_.wide.bytes() +
         buf_.query.bytes() + buf_.logits.bytes();
}

KvLayer RouterNet::KvShape(int num_blocks) const {
  return KvLayer{nullptr, num_blocks, spec_.num_heads, spec_.head_dim(), kKv};
}

size_t RouterNet::KvLayerBytes(int num_blocks) const {
  return device_.KvLayerBytes(num_blocks, spec_.num_heads, spec_.head_dim(), kKv);
}

void RouterNet::Forward(const TokenBatch& batch, absl::Span<const KvLayer> kv, float* logits_out,
                        int32_t* routes_out) {
  Check(batch, kv);
  device_.Embed(batch, weights_.embed, buf_.residual.as<float>());
  for (int l = 0; l < num_layers(); ++l) {
    StoreKv(batch, weights_.layers[l], kv[l]);
    Attend(batch, weights_.layers[l], kv[l]);
    Mlp(batch, weights_.layers[l]);
  }
  Head(batch, logits_out != nullptr ? logits_out : buf_.logits.as<float>(), routes_out);
}

void RouterNet::FillKv(const TokenBatch& batch, absl::Span<const KvLayer> kv) {
  Check(batch, kv);
  device_.Embed(batch, weights_.embed, buf_.residual.as<float>());
  for (int l = 0; l < num_layers(); ++l) {
    StoreKv(batch, weights_.layers[l], kv[l]);
    if (l + 1 == num_layers()) return;
    Attend(batch, weights_.layers[l], kv[l]);
    Mlp(batch, weights_.layers[l]);
  }
}

void RouterNet::StoreKv(const TokenBatch& batch, const RouterLayerWeights& layer,
                        const KvLayer& kv) {
  device_.RmsNorm(batch.rows, spec_.hidden, buf_.residual.as<float>(), layer.attention_norm,
                  spec_.rms_eps, kAct, buf_.act.as<void>());
  device_.Linear(batch.rows, kAct, buf_.act.as<void>(), layer.qkv, layer.qkv_bias,
                 buf_.wide.as<float>());
  device_.RotateAndStore(batch, qkv_args_, buf_.wide.as<float>(), kv, buf_.query.as<float>());
}

void RouterNet::Attend(const TokenBatch& batch, const RouterLayerWeights& layer,
                       const KvLayer& kv) {
  device_.Attention(batch, qkv_args_, buf_.query.as<float>(), kv, 1.0f / spec_.normalizer, kAct,
                    buf_.act.as<void>());
  device_.Linear(batch.rows, kAct, buf_.act.as<void>(), layer.o, layer.o_bias,
                 buf_.wide.as<float>());
  device_.AddResidual(batch.rows, spec_.hidden, buf_.wide.as<float>(), buf_.residual.as<float>());
}

void RouterNet::Mlp(const TokenBatch& batch, const RouterLayerWeights& layer) {
  device_.RmsNorm(batch.rows, spec_.hidden, buf_.residual.as<float>(), layer.ffn_norm,
                  spec_.rms_eps, kAct, buf_.act.as<void>());
  device_.Linear(batch.rows, kAct, buf_.act.as<void>(), layer.proj_1, layer.proj_1_bias,
                 buf_.wide.as<float>());
  device_.Activate(batch.rows, spec_.intermediate, spec_.activation, buf_.wide.as<float>(), kAct,
                   buf_.act.as<void>());
  device_.Linear(batch.rows, kAct, buf_.act.as<void>(), layer.proj_2, layer.proj_2_bias,
                 buf_.wide.as<float>());
  device_.AddResidual(batch.rows, spec_.hidden, buf_.wide.as<float>(), buf_.residual.as<float>());
}

void RouterNet::Head(const TokenBatch& batch, float* logits, int32_t* routes) {
  device_.RmsNorm(batch.rows, spec_.hidden, buf_.residual.as<float>(), weights_.norm, spec_.rms_eps,
                  kAct, buf_.act.as<void>());
  device_.Linear(batch.rows, kAct, buf_.act.as<void>(), weights_.proj_out, weights_.proj_out_bias,
                 logits);
  device_.ArgMax(batch.rows, num_experts(), logits, routes);
}

void RouterNet::Check(const TokenBatch& batch, absl::Span<const KvLayer> kv) const {
  PREGATE_CHECK(batch.rows.max <= tokens_max_, "rows.max ", batch.rows.max, " tokens_max ",
                tokens_max_);
  PREGATE_CHECK(kv.size() == weights_.layers.size(), "kv layers ", kv.size(), " router layers ",
                num_layers());
}

}  // namespace pregate

#include "common/router/router_net.h"

#include <utility>

#include "common/base/status.h"

namespace pregate {
namespace {

AttentionShape AttentionOf(const RouterSpec& spec, const float* inv_freq) {
  return {.hidden = spec.hidden,
          .num_heads = spec.num_heads,
          .num_kv_heads = spec.num_heads,
          .head_dim = spec.head_dim(),
          .norm_eps = spec.rms_eps,
          .scale = 1.0f / spec.normalizer,
          .rope = {spec.head_dim(), inv_freq}};
}

}  // namespace

RouterNet::RouterNet(const RouterSpec& spec, Device& device, int tokens_max, RouterWeights weights)
    : device_(device),
      tokens_max_(tokens_max),
      weights_(std::move(weights)),
      attention_(AttentionOf(spec, weights_.inv_freq)),
      mlp_{spec.hidden, spec.rms_eps, spec.activation} {}

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
  const WorkspaceShape shape = {.attention = attention_,
                                .mlp_width = weights_.layers[0].mlp.proj_1.outputs,
                                .act_bytes = device_.act_bytes(attention_.act),
                                .tokens_max = tokens_max_,
                                .logits_rows_max = tokens_max_,
                                .emit_picks = false,
                                .vocab_size = num_experts()};
  ASSIGN_OR_RETURN(residual_,
                   device_.Allocate(size_t(tokens_max_) * attention_.hidden * sizeof(float)));
  ASSIGN_OR_RETURN(buffer_, device_.Allocate(LayerWorkspace::Bytes(shape)));
  workspace_ = LayerWorkspace::At(buffer_.as<void>(), shape);
  return absl::OkStatus();
}

size_t RouterNet::device_bytes() const {
  return weights_.device_bytes + residual_.bytes() + buffer_.bytes();
}

KvLayer RouterNet::KvShape(int num_blocks) const {
  return KvLayer{nullptr, num_blocks, attention_.num_kv_heads, attention_.head_dim, kF32Types.kv};
}

size_t RouterNet::KvLayerBytes(int num_blocks) const {
  return device_.KvLayerBytes(num_blocks, attention_.num_kv_heads, attention_.head_dim,
                              kF32Types.kv);
}

void RouterNet::Forward(const TokenBatch& batch, absl::Span<const KvLayer> kv, float* logits_out,
                        int32_t* routes_out) {
  Check(batch, kv);
  device_.Embed(batch, weights_.embed, 1, residual_.as<float>());
  for (int l = 0; l < num_layers(); ++l) Layer(batch, l, kv[l]);
  EmitArgs args;
  args.rows = batch.rows;
  args.logits = logits_out != nullptr ? logits_out : workspace_.logits;
  device_.Emit(weights_.head, args, workspace_, residual_.as<float>());
  device_.ArgMax(batch.rows, num_experts(), args.logits, routes_out);
}

void RouterNet::FillKv(const TokenBatch& batch, absl::Span<const KvLayer> kv) {
  Check(batch, kv);
  const int last = num_layers() - 1;
  device_.Embed(batch, weights_.embed, 1, residual_.as<float>());
  for (int l = 0; l < last; ++l) Layer(batch, l, kv[l]);
  device_.StoreKv(batch, attention_, weights_.layers[last].attention, kv[last], workspace_,
                  residual_.as<float>());
}

void RouterNet::Layer(const TokenBatch& batch, int layer, const KvLayer& kv) {
  const RouterLayerWeights& weights = weights_.layers[layer];
  float* h = residual_.as<float>();
  device_.AttentionHalf(batch, attention_, weights.attention, kv, workspace_, h);
  device_.Mlp(batch.rows, mlp_, weights.mlp, workspace_, h);
}

void RouterNet::Check(const TokenBatch& batch, absl::Span<const KvLayer> kv) const {
  PREGATE_CHECK(batch.rows.max <= tokens_max_, "rows.max ", batch.rows.max, " tokens_max ",
                tokens_max_);
  PREGATE_CHECK(kv.size() == weights_.layers.size(), "kv layers ", kv.size(), " router layers ",
                num_layers());
}

}  // namespace pregate

#include "expert_service/engine/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"

namespace pregate {
namespace {

AttentionShape AttentionOf(const ModelSpec& spec, int layer, ActType act, const RopeShape& rope) {
  return {.hidden = spec.hidden,
          .num_heads = spec.num_heads,
          .num_kv_heads = spec.num_kv_heads,
          .head_dim = spec.head_dim,
          .norm_eps = spec.rms_eps,
          .scale = spec.attention_scale(),
          .rope = spec.has_rope(layer) ? rope : RopeShape(),
          .window = spec.window(layer),
          .residual = spec.residual_multiplier,
          .act = act};
}

WorkspaceShape WorkspaceOf(const Device& device, const ModelSpec& spec, ActType act, int tokens_max,
                           int logits_rows_max) {
  return {.attention = AttentionOf(spec, 0, act, {}),
          .has_own = std::any_of(spec.own_width.begin(), spec.own_width.end(),
                                 [](int width) { return width > 0; }),
          .act_bytes = device.act_bytes(act),
          .tokens_max = tokens_max,
          .logits_rows_max = logits_rows_max,
          .vocab_size = spec.vocab_size};
}

size_t ResidualBytes(const ModelSpec& spec, int tokens_max) {
  return size_t(tokens_max) * spec.hidden * sizeof(float);
}

}  // namespace

LayerShapes::LayerShapes(const ModelWeights& weights)
    : ffn{.hidden = weights.spec().hidden,
          .norm_eps = weights.spec().rms_eps,
          .residual = weights.spec().residual_multiplier,
          .act = weights.types().act,
          .wire = weights.types().wire} {
  for (int l = 0; l < weights.spec().num_layers; ++l) {
    attention.push_back(AttentionOf(weights.spec(), l, weights.types().act, weights.rope()));
  }
}

ForwardPass::ForwardPass(Device* device, const ModelWeights* weights, ExpertPart* experts)
    : device_(*device), weights_(*weights), experts_(experts), shapes_(*weights) {}

absl::StatusOr<std::unique_ptr<ForwardPass>> ForwardPass::Create(Device* device,
                                                                 const ModelWeights* weights,
                                                                 ExpertPart* experts,
                                                                 int tokens_max,
                                                                 int logits_rows_max) {
  std::unique_ptr<ForwardPass> pass(new ForwardPass(device, weights, experts));
  const WorkspaceShape shape =
      WorkspaceOf(*device, weights->spec(), weights->types().act, tokens_max, logits_rows_max);
  ASSIGN_OR_RETURN(pass->residual_, device->Allocate(ResidualBytes(weights->spec(), tokens_max)));
  ASSIGN_OR_RETURN(pass->buffer_, device->Allocate(LayerWorkspace::Bytes(shape)));
  pass->workspace_ = LayerWorkspace::At(pass->buffer_.as<void>(), shape);
  return pass;
}

int64_t ForwardPass::Bytes(const Device& device, const ModelSpec& spec, ActType act, int tokens_max,
                           int logits_rows_max) {
  return static_cast<int64_t>(
      ResidualBytes(spec, tokens_max) +
      LayerWorkspace::Bytes(WorkspaceOf(device, spec, act, tokens_max, logits_rows_max)));
}

absl::Status ForwardPass::Run(const TokenBatch& batch, absl::Span<const KvLayer> kv,
                              const StepProgress& on_progress) {
  device_.Embed(batch, weights_.embedding(), weights_.spec().embedding_multiplier,
                residual_.as<float>());
  if (on_progress && !on_progress()) return absl::AbortedError("the step was stopped");
  const int num_layers = static_cast<int>(kv.size());
  bool refused = false;
  for (int l = 0; l < num_layers;) {
    const int at_once = refused ? 0 : LayersAtOnce(batch, kv, l, &refused);
    if (at_once == 0) RETURN_IF_ERROR(RunLayer(batch, kv[l], l));
    l += std::max(at_once, 1);
    if (on_progress && !on_progress()) return absl::AbortedError("the step was stopped");
  }
  return absl::OkStatus();
}

// How many layers from `first` on have run. `refused`: the device does not run layers so.
int ForwardPass::LayersAtOnce(const TokenBatch& batch, absl::Span<const KvLayer> kv, int first,
                              bool* refused) {
  const auto run = [&](int32_t count) {
    calls_.clear();
    for (int l = first; l < first + count; ++l) {
      const LayerWeights& layer = weights_.layers()[l];
      calls_.push_back({shapes_.attention[l], layer.attention, kv[l], layer.ffn,
                        layer.ffn.own.width > 0 ? experts_->units(l) : nullptr});
    }
    const ExpertGroups groups = experts_ != nullptr ? experts_->groups() : ExpertGroups();
    *refused = !device_.LayersAtOnce(batch, calls_, shapes_.ffn, groups, workspace_,
                                     residual_.as<float>());
    return !*refused;
  };
  if (experts_ != nullptr) return experts_->RunLayers(first, run);
  const int left = static_cast<int>(kv.size()) - first;
  return run(left) ? left : 0;
}

absl::Status ForwardPass::RunLayer(const TokenBatch& batch, const KvLayer& kv, int l) {
  float* h = residual_.as<float>();
  const LayerWeights& layer = weights_.layers()[l];
  device_.AttentionHalf(batch, shapes_.attention[l], layer.attention, kv, workspace_, h);
  if (layer.ffn.own.width > 0) {
    return experts_->FfnHalf(l, batch.rows, shapes_.ffn, layer.ffn, workspace_, h);
  }
  device_.FfnHalf(batch.rows, shapes_.ffn, layer.ffn, {}, nullptr, workspace_, h);
  return absl::OkStatus();
}

const float* ForwardPass::Emit(EmitArgs args) {
  args.logits = workspace_.logits;
  device_.Emit(weights_.head(), args, workspace_, residual_.as<float>());
  return args.logits;
}

}  // namespace pregate

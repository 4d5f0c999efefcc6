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
  if (!LayersAtOnce(batch, kv)) return LayersInTurn(batch, kv, on_progress);
  if (on_progress && !on_progress()) return absl::AbortedError("the step was stopped");
  return absl::OkStatus();
}

bool ForwardPass::LayersAtOnce(const TokenBatch& batch, absl::Span<const KvLayer> kv) {
  if (experts_ != nullptr && experts_->WholeLayer(0) == nullptr) return false;
  calls_.clear();
  for (size_t l = 0; l < kv.size(); ++l) {
    const LayerWeights& layer = weights_.layers()[l];
    calls_.push_back({shapes_.attention[l], layer.attention, kv[l], layer.ffn,
                      layer.ffn.own.width > 0 ? experts_->WholeLayer(l) : nullptr});
  }
  const ExpertGroups groups = experts_ != nullptr ? experts_->groups() : ExpertGroups();
  if (!device_.LayersAtOnce(batch, calls_, shapes_.ffn, groups, workspace_,
                            residual_.as<float>())) {
    return false;
  }
  for (const LayerCall& call : calls_) {
    if (call.units != nullptr) experts_->NoteWholeLayer();
  }
  return true;
}

absl::Status ForwardPass::LayersInTurn(const TokenBatch& batch, absl::Span<const KvLayer> kv,
                                       const StepProgress& on_progress) {
  float* h = residual_.as<float>();
  for (size_t l = 0; l < kv.size(); ++l) {
    const LayerWeights& layer = weights_.layers()[l];
    device_.AttentionHalf(batch, shapes_.attention[l], layer.attention, kv[l], workspace_, h);
    if (layer.ffn.own.width > 0) {
      RETURN_IF_ERROR(experts_->FfnHalf(static_cast<int>(l), batch.rows, shapes_.ffn, layer.ffn,
                                        workspace_, h));
    } else {
      device_.FfnHalf(batch.rows, shapes_.ffn, layer.ffn, {}, nullptr, workspace_, h);
    }
    if (on_progress && !on_progress()) return absl::AbortedError("the step was stopped");
  }
  return absl::OkStatus();
}

const float* ForwardPass::Emit(EmitArgs args) {
  args.logits = workspace_.logits;
  device_.Emit(weights_.head(), args, workspace_, residual_.as<float>());
  return args.logits;
}

}  // namespace pregate

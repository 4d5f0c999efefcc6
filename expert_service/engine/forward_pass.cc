#include "expert_service/engine/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace pregate {
namespace {

struct BufferSizes {
  size_t h, act, qkv, q, y, own, zeros, resident_offsets, resident_order, rows, logits;
};

BufferSizes SizesFor(const Device& device, const ModelSpec& spec, ActType act, size_t tokens,
                     size_t logits_rows) {
  const size_t hidden = spec.hidden, q_width = size_t(spec.num_heads) * spec.head_dim;
  const size_t qkv_width = q_width + 2 * size_t(spec.num_kv_heads) * spec.head_dim;
  const size_t act_rows = std::max(tokens, logits_rows);
  BufferSizes sizes;
  sizes.h = tokens * hidden * sizeof(float);
  sizes.act = act_rows * std::max(hidden, q_width) * device.act_bytes(act);
  sizes.qkv = tokens * qkv_width * sizeof(float);
  sizes.q = tokens * q_width * sizeof(float);
  sizes.y = tokens * hidden * sizeof(float);
  sizes.own = tokens * hidden * sizeof(float);
  sizes.zeros = tokens * hidden * sizeof(float);
  sizes.resident_offsets = 2 * sizeof(int32_t);
  sizes.resident_order = tokens * sizeof(int32_t);
  sizes.rows = logits_rows * hidden * sizeof(float);
  sizes.logits = logits_rows * spec.vocab_size * sizeof(float);
  return sizes;
}

}  // namespace

ForwardPass::ForwardPass(Device* device, const ModelWeights* weights, ExpertPart* experts)
    : device_(*device),
      weights_(*weights),
      experts_(experts),
      spec_(weights->spec()),
      qkv_args_{spec_.num_heads, spec_.num_kv_heads, spec_.head_dim, weights->inv_freq()} {}

absl::StatusOr<std::unique_ptr<ForwardPass>> ForwardPass::Create(Device* device,
                                                                 const ModelWeights* weights,
                                                                 ExpertPart* experts,
                                                                 int tokens_max,
                                                                 int logits_rows_max) {
  std::unique_ptr<ForwardPass> pass(new ForwardPass(device, weights, experts));
  const BufferSizes sizes =
      SizesFor(*device, weights->spec(), weights->types().act, tokens_max, logits_rows_max);
  Buffers& b = pass->buffers_;
  for (auto& [buffer, bytes] :
       std::vector<std::pair<DeviceBuffer*, size_t>>{{&b.h, sizes.h},
                                                     {&b.act, sizes.act},
                                                     {&b.qkv, sizes.qkv},
                                                     {&b.q, sizes.q},
                                                     {&b.y, sizes.y},
                                                     {&b.own, sizes.own},
                                                     {&b.zeros, sizes.zeros},
                                                     {&b.resident_offsets, sizes.resident_offsets},
                                                     {&b.resident_order, sizes.resident_order},
                                                     {&b.rows, sizes.rows},
                                                     {&b.logits, sizes.logits}}) {
    ASSIGN_OR_RETURN(*buffer, device->Allocate(bytes));
  }
  return pass;
}

int64_t ForwardPass::Bytes(const Device& device, const ModelSpec& spec, ActType act, int tokens_max,
                           int logits_rows_max) {
  const BufferSizes s = SizesFor(device, spec, act, tokens_max, logits_rows_max);
  return s.h + s.act + s.qkv + s.q + s.y + s.own + s.zeros + s.resident_offsets + s.resident_order +
         s.rows + s.logits;
}

absl::Status ForwardPass::Run(const TokenBatch& batch, absl::Span<const KvLayer> kv,
                              const StepProgress& on_progress) {
  device_.BuildGroups(batch.rows, buffers_.zeros.as<int32_t>(), resident_groups());
  device_.Embed(batch, weights_.embedding(), buffers_.h.as<float>());
  for (int l = 0; l < spec_.num_layers; ++l) {
    Attention(batch, weights_.layers()[l], kv[l]);
    RETURN_IF_ERROR(Mlp(batch, l));
    if (on_progress && !on_progress()) return absl::AbortedError("the step was stopped");
  }
  return absl::OkStatus();
}

void ForwardPass::Attention(const TokenBatch& batch, const LayerWeights& layer, const KvLayer& kv) {
  const StepTypes& types = weights_.types();
  float* h = buffers_.h.as<float>();
  void* act = buffers_.act.as<void>();
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));

  device_.RmsNorm(batch.rows, spec_.hidden, h, layer.input_norm, spec_.rms_eps, types.act, act);
  device_.Linear(batch.rows, types.act, act, layer.qkv, nullptr, buffers_.qkv.as<float>());
  device_.RotateAndStore(batch, qkv_args_, buffers_.qkv.as<float>(), kv, buffers_.q.as<float>());
  device_.Attention(batch, qkv_args_, buffers_.q.as<float>(), kv, scale, types.act, act);
  device_.Linear(batch.rows, types.act, act, layer.o, nullptr, buffers_.y.as<float>());
  device_.AddResidual(batch.rows, spec_.hidden, buffers_.y.as<float>(), h);
}

absl::Status ForwardPass::Mlp(const TokenBatch& batch, int l) {
  const LayerWeights& layer = weights_.layers()[l];
  const StepTypes& types = weights_.types();
  float* h = buffers_.h.as<float>();
  void* act = buffers_.act.as<void>();
  const float* shared = buffers_.zeros.as<float>();
  const float* own = nullptr;

  device_.RmsNorm(batch.rows, spec_.hidden, h, layer.post_attention_norm, spec_.rms_eps, types.act,
                  act);
  if (layer.resident.width > 0) {
    device_.Ffn(batch.rows, types.act, act, resident_groups(), layer.resident_unit, layer.resident,
                buffers_.y.as<float>());
    shared = buffers_.y.as<float>();
  }
  if (spec_.is_moe() && spec_.own_width[l] > 0) {
    RETURN_IF_ERROR(experts_->Run(l, batch.rows, act, buffers_.own.as<float>()));
    own = buffers_.own.as<float>();
  }
  device_.AddFfn(batch.rows, spec_.hidden, shared, own, types.wire, h);
  return absl::OkStatus();
}

const float* ForwardPass::Logits(RowCount rows, const int32_t* index) {
  float* gathered = buffers_.rows.as<float>();
  void* act = buffers_.act.as<void>();
  float* logits = buffers_.logits.as<float>();
  device_.GatherRows(rows, spec_.hidden, buffers_.h.as<float>(), index, gathered);
  device_.RmsNorm(rows, spec_.hidden, gathered, weights_.final_norm(), spec_.rms_eps,
                  weights_.types().act, act);
  device_.Linear(rows, weights_.types().act, act, weights_.logits(), nullptr, logits);
  return logits;
}

ExpertGroups ForwardPass::resident_groups() const {
  return {buffers_.resident_offsets.as<int32_t>(), buffers_.resident_order.as<int32_t>(), 1};
}

}  // namespace pregate

#include "expert_service/engine/forward_pass.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace pregate {
namespace {

struct BufferSizes {
  size_t h, act, qkv, q, y, own, zeros, group_offsets, group_order, resident_offsets,
      resident_order, rows, logits;
};

BufferSizes SizesFor(const Device& device, const ModelSpec& spec, size_t tokens,
                     size_t logits_rows) {
  const size_t hidden = spec.hidden, q_width = size_t(spec.num_heads) * spec.head_dim;
  const size_t qkv_width = q_width + 2 * size_t(spec.num_kv_heads) * spec.head_dim;
  const size_t act_rows = std::max(tokens, logits_rows);
  BufferSizes sizes;
  sizes.h = tokens * hidden * sizeof(float);
  sizes.act = act_rows * std::max(hidden, q_width) * device.act_bytes(DType::kF32);
  sizes.qkv = tokens * qkv_width * sizeof(float);
  sizes.q = tokens * q_width * sizeof(float);
  sizes.y = tokens * hidden * sizeof(float);
  sizes.own = tokens * hidden * sizeof(float);
  sizes.zeros = tokens * hidden * sizeof(float);
  sizes.group_offsets = (spec.num_experts + 1) * sizeof(int32_t);
  sizes.group_order = tokens * sizeof(int32_t);
  sizes.resident_offsets = 2 * sizeof(int32_t);
  sizes.resident_order = tokens * sizeof(int32_t);
  sizes.rows = logits_rows * hidden * sizeof(float);
  sizes.logits = logits_rows * spec.vocab_size * sizeof(float);
  return sizes;
}

}  // namespace

ForwardPass::ForwardPass(Device* device, const ModelWeights* weights)
    : device_(*device),
      weights_(*weights),
      spec_(weights->spec()),
      qkv_args_{spec_.num_heads, spec_.num_kv_heads, spec_.head_dim, weights->inv_freq()} {}

absl::StatusOr<std::unique_ptr<ForwardPass>> ForwardPass::Create(Device* device,
                                                                 const ModelWeights* weights,
                                                                 int tokens_max,
                                                                 int logits_rows_max) {
  std::unique_ptr<ForwardPass> pass(new ForwardPass(device, weights));
  const BufferSizes sizes = SizesFor(*device, weights->spec(), tokens_max, logits_rows_max);
  Buffers& b = pass->buffers_;
  for (auto& [buffer, bytes] :
       std::vector<std::pair<DeviceBuffer*, size_t>>{{&b.h, sizes.h},
                                                     {&b.act, sizes.act},
                                                     {&b.qkv, sizes.qkv},
                                                     {&b.q, sizes.q},
                                                     {&b.y, sizes.y},
                                                     {&b.own, sizes.own},
                                                     {&b.zeros, sizes.zeros},
                                                     {&b.group_offsets, sizes.group_offsets},
                                                     {&b.group_order, sizes.group_order},
                                                     {&b.resident_offsets, sizes.resident_offsets},
                                                     {&b.resident_order, sizes.resident_order},
                                                     {&b.rows, sizes.rows},
                                                     {&b.logits, sizes.logits}}) {
    ASSIGN_OR_RETURN(*buffer, device->Allocate(bytes));
  }
  return pass;
}

int64_t ForwardPass::Bytes(const Device& device, const ModelSpec& spec, int tokens_max,
                           int logits_rows_max) {
  const BufferSizes s = SizesFor(device, spec, tokens_max, logits_rows_max);
  return s.h + s.act + s.qkv + s.q + s.y + s.own + s.zeros + s.group_offsets + s.group_order +
         s.resident_offsets + s.resident_order + s.rows + s.logits;
}

bool ForwardPass::Run(const TokenBatch& batch, const int32_t* routes, absl::Span<const KvLayer> kv,
                      const StepProgress& on_progress) {
  device_.BuildGroups(batch.rows, buffers_.zeros.as<int32_t>(), resident_groups());
  if (spec_.is_moe()) device_.BuildGroups(batch.rows, routes, own_groups());

  device_.Embed(batch, weights_.embedding(), buffers_.h.as<float>());
  for (int l = 0; l < spec_.num_layers; ++l) {
    const LayerWeights& layer = weights_.layers()[l];
    Attention(batch, layer, kv[l]);
    Mlp(batch, layer);
    if (on_progress && !on_progress()) return false;
  }
  return true;
}

void ForwardPass::Attention(const TokenBatch& batch, const LayerWeights& layer, const KvLayer& kv) {
  const DType dtype = weights_.dtype();
  float* h = buffers_.h.as<float>();
  void* act = buffers_.act.as<void>();
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));

  device_.RmsNorm(batch.rows, spec_.hidden, h, layer.input_norm, spec_.rms_eps, dtype, act);
  device_.Linear(batch.rows, act, layer.qkv, nullptr, buffers_.qkv.as<float>());
  device_.RotateAndStore(batch, qkv_args_, buffers_.qkv.as<float>(), kv, buffers_.q.as<float>());
  device_.Attention(batch, qkv_args_, buffers_.q.as<float>(), kv, scale, dtype, act);
  device_.Linear(batch.rows, act, layer.o, nullptr, buffers_.y.as<float>());
  device_.AddResidual(batch.rows, spec_.hidden, buffers_.y.as<float>(), h);
}

void ForwardPass::Mlp(const TokenBatch& batch, const LayerWeights& layer) {
  const DType dtype = weights_.dtype();
  float* h = buffers_.h.as<float>();
  void* act = buffers_.act.as<void>();
  const float* shared = buffers_.zeros.as<float>();
  const float* own = nullptr;

  device_.RmsNorm(batch.rows, spec_.hidden, h, layer.post_attention_norm, spec_.rms_eps, dtype,
                  act);
  if (layer.resident.width > 0) {
    device_.Ffn(batch.rows, act, resident_groups(), layer.resident_unit, layer.resident,
                buffers_.y.as<float>());
    shared = buffers_.y.as<float>();
  }
  if (layer.own.width > 0) {
    device_.Ffn(batch.rows, act, own_groups(), layer.own_units, layer.own,
                buffers_.own.as<float>());
    own = buffers_.own.as<float>();
  }
  device_.AddFfn(batch.rows, spec_.hidden, shared, own, dtype, h);
}

const float* ForwardPass::Logits(RowCount rows, const int32_t* index) {
  float* gathered = buffers_.rows.as<float>();
  void* act = buffers_.act.as<void>();
  float* logits = buffers_.logits.as<float>();
  device_.GatherRows(rows, spec_.hidden, buffers_.h.as<float>(), index, gathered);
  device_.RmsNorm(rows, spec_.hidden, gathered, weights_.final_norm(), spec_.rms_eps,
                  weights_.dtype(), act);
  device_.Linear(rows, act, weights_.logits(), nullptr, logits);
  return logits;
}

ExpertGroups ForwardPass::own_groups() const {
  return {buffers_.group_offsets.as<int32_t>(), buffers_.group_order.as<int32_t>(),
          spec_.num_experts};
}

ExpertGroups ForwardPass::resident_groups() const {
  return {buffers_.resident_offsets.as<int32_t>(), buffers_.resident_order.as<int32_t>(), 1};
}

}  // namespace pregate

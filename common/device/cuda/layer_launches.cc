#include "common/device/cuda/layer_launches.h"

#include "common/device/cuda/arguments.h"
#include "common/device/cuda/kernels.h"

namespace pregate::cuda {
namespace {

bool TakesHeads(const LayerCall& layer) {
  const AttentionShape& a = layer.attention;
  const AttentionWeights& w = layer.attention_weights;
  return a.act == ActType::kBF16 && w.qkv_bias == nullptr && w.head_norms.q == nullptr &&
         layer.kv.type == KvType::kBF16 && a.head_dim % 16 == 0 &&
         (a.rope.dims == 0 || a.rope.dims == a.head_dim);
}

}  // namespace

void LayerLaunches::Run(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                        const FfnShape& ffn, const ExpertGroups& groups, const LayerWorkspace& w,
                        float* h) {
  const RowCount rows = batch.rows;
  for (size_t l = 0; l < layers.size(); ++l) {
    const LayerCall& layer = layers[l];
    const AttentionShape& a = layer.attention;
    if (l == 0) {
      operations_.RmsNorm(rows, a.hidden, h, layer.attention_weights.norm, a.norm_eps, a.act,
                          w.act);
    }
    StoreHeads(batch, layer, w);
    operations_.Attention(batch, a, w.q, layer.kv, w.act);
    AddOutput(rows, layer, ffn, w, h);
    products_.FfnParts(rows, ffn.act, layer.ffn, groups, layer.units, w);
    const float* shared = layer.ffn.shared.width > 0 ? w.wide : nullptr;
    const float* own = layer.ffn.own.width > 0 ? w.own : nullptr;
    if (l + 1 < layers.size()) {
      const LayerCall& next = layers[l + 1];
      AddFfnNorm(stream_in_use(), ToRows(rows), ffn.hidden, shared, own,
                 ffn.wire == WireType::kBF16, ffn.residual, h, next.attention_weights.norm,
                 next.attention.norm_eps, next.attention.act == ActType::kBF16, w.act);
    } else {
      operations_.AddFfn(rows, ffn.hidden, shared, own, ffn.wire, ffn.residual, h);
    }
  }
}

void LayerLaunches::StoreHeads(const TokenBatch& batch, const LayerCall& layer,
                               const LayerWorkspace& w) {
  const AttentionShape& a = layer.attention;
  const AttentionWeights& weights = layer.attention_weights;
  const GroupedMatmul qkv = products_.DenseProduct(batch.rows, w.act, weights.qkv, nullptr);
  if (TakesHeads(layer) && TakesLinearHeads(qkv)) {
    return LinearHeads(stream_in_use(), qkv, ToPaged(batch), ToHeads(a),
                       {a.rope.dims, a.rope.inv_freq, a.rope.scale, nullptr, nullptr, a.norm_eps},
                       {layer.kv.data, layer.kv.num_blocks, true}, w.q);
  }
  products_.Linear(batch.rows, a.act, w.act, weights.qkv, weights.qkv_bias, w.wide);
  operations_.RotateAndStore(batch, a, weights.head_norms, w.wide, layer.kv, w.q);
}

void LayerLaunches::AddOutput(RowCount rows, const LayerCall& layer, const FfnShape& ffn,
                              const LayerWorkspace& w, float* h) {
  const AttentionShape& a = layer.attention;
  const AttentionWeights& weights = layer.attention_weights;
  products_.Linear(rows, a.act, w.act, weights.o, weights.o_bias, w.wide);
  AddFfnNorm(stream_in_use(), ToRows(rows), a.hidden, w.wide, nullptr, false, a.residual, h,
             layer.ffn.norm, ffn.norm_eps, ffn.act == ActType::kBF16, w.act);
}

}  // namespace pregate::cuda

#include "common/device/composed_device.h"

#include "common/base/process.h"

namespace pregate {

absl::StatusOr<DeviceMemory> ComposedDevice::HostMemory() {
  const auto available = AvailableMemoryBytes(), total = TotalMemoryBytes();
  if (available && total) return DeviceMemory{*available, *total};
  return absl::UnavailableError("the kernel does not say how much memory there is");
}

void ComposedDevice::AttentionHalf(const TokenBatch& batch, const AttentionShape& shape,
                                   const AttentionWeights& weights, const KvLayer& kv,
                                   const LayerWorkspace& w, float* h) {
  StoreKv(batch, shape, weights, kv, w, h);
  Attention(batch, shape, w.q, kv, w.act);
  Linear(batch.rows, shape.act, w.act, weights.o, weights.o_bias, w.wide);
  AddResidual(batch.rows, shape.hidden, w.wide, shape.residual, h);
}

void ComposedDevice::StoreKv(const TokenBatch& batch, const AttentionShape& shape,
                             const AttentionWeights& weights, const KvLayer& kv,
                             const LayerWorkspace& w, const float* h) {
  RmsNorm(batch.rows, shape.hidden, h, weights.norm, shape.norm_eps, shape.act, w.act);
  Linear(batch.rows, shape.act, w.act, weights.qkv, weights.qkv_bias, w.wide);
  RotateAndStore(batch, shape, weights.head_norms, w.wide, kv, w.q);
}

void ComposedDevice::FfnBegin(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                              const LayerWorkspace& w, const float* h) {
  RmsNorm(rows, shape.hidden, h, weights.norm, shape.norm_eps, shape.act, w.act);
  if (weights.shared.width == 0) return;
  ExpertFfn(rows, shape.act, w.act, AllRows(), weights.shared_unit, weights.shared, w.wide);
}

void ComposedDevice::FfnEnd(RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                            const LayerWorkspace& w, float* h) {
  AddFfn(rows, shape.hidden, weights.shared.width > 0 ? w.wide : nullptr,
         weights.own.width > 0 ? w.own : nullptr, shape.wire, shape.residual, h);
}

void ComposedDevice::Mlp(RowCount rows, const MlpShape& shape, const MlpWeights& weights,
                         const LayerWorkspace& w, float* h) {
  RmsNorm(rows, shape.hidden, h, weights.norm, shape.norm_eps, shape.act, w.act);
  Linear(rows, shape.act, w.act, weights.proj_1, weights.proj_1_bias, w.wide);
  Activate(rows, weights.proj_1.outputs, shape.activation, w.wide, shape.act, w.act);
  Linear(rows, shape.act, w.act, weights.proj_2, weights.proj_2_bias, w.wide);
  AddResidual(rows, shape.hidden, w.wide, 1, h);
}

void ComposedDevice::Emit(const EmitHead& head, const EmitArgs& args, const LayerWorkspace& w,
                          const float* h) {
  const int hidden = head.logits.inputs, vocab_size = head.logits.outputs;
  if (args.index != nullptr) GatherRows(args.rows, hidden, h, args.index, w.picked);
  RmsNorm(args.rows, hidden, args.index != nullptr ? w.picked : h, head.norm, head.norm_eps,
          head.act, w.act);
  Linear(args.rows, head.act, w.act, head.logits, head.bias, args.logits);
  if (args.sample) SampleTokens(args.rows, vocab_size, args.logits, *args.sample);
  if (args.score) ScoreTokens(args.rows, vocab_size, args.logits, *args.score);
}

}  // namespace pregate

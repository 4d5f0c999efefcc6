#include "common/device/cuda/step_layers.h"

#include <algorithm>
#include <cstring>

#include "common/device/cuda/arguments.h"
#include "common/device/cuda/weights/image.h"

namespace pregate::cuda {
namespace {

bool IsPlainBf16(const Matrix& m) { return IsBf16(m.format) && m.inputs % 16 == 0; }
bool FitsStrips(const UnitShape& unit) {
  return unit.width == 0 || (IsBf16(unit.format) && unit.width % 16 == 0);
}

bool SameHeads(const AttentionShape& a, const AttentionShape& b) {
  return a.num_heads == b.num_heads && a.num_kv_heads == b.num_kv_heads &&
         a.head_dim == b.head_dim && a.hidden == b.hidden && a.norm_eps == b.norm_eps &&
         a.scale == b.scale && a.window == b.window && a.residual == b.residual;
}
bool SameRope(const RopeShape& a, const RopeShape& b) {
  return a.dims == 0 || b.dims == 0 || (a.inv_freq == b.inv_freq && a.scale == b.scale);
}

// What the layers have in common, and what each may have.
bool Takes(const LayerCall& layer, const LayerCall& first, const RopeShape& rope) {
  const AttentionShape& a = layer.attention;
  const AttentionWeights& w = layer.attention_weights;
  const UnitShape &shared = layer.ffn.shared, &own = layer.ffn.own;
  return SameHeads(a, first.attention) && SameRope(a.rope, rope) &&
         (a.rope.dims == 0 || a.rope.dims == a.head_dim) && w.qkv_bias == nullptr &&
         w.o_bias == nullptr && w.head_norms.q == nullptr && IsPlainBf16(w.qkv) &&
         IsPlainBf16(w.o) && layer.kv.type == KvType::kBF16 && shared.width + own.width > 0 &&
         FitsStrips(shared) && FitsStrips(own);
}

StepLayer ToStepLayer(const LayerCall& layer) {
  StepLayer out;
  std::memset(&out, 0, sizeof(out));  // compared as bytes
  out.qkv = layer.attention_weights.qkv.data;
  out.o = layer.attention_weights.o.data;
  out.attention_norm = layer.attention_weights.norm;
  out.ffn_norm = layer.ffn.norm;
  out.kv = layer.kv.data;
  out.shared_unit = layer.ffn.shared_unit;
  out.own_units = layer.units;
  out.num_blocks = layer.kv.num_blocks;
  out.rotates = layer.attention.rope.dims > 0;
  out.shared_width = layer.ffn.shared.width;
  out.own_width = layer.ffn.own.width;
  const auto elements = [](size_t bytes) { return static_cast<int>(bytes / 2); };
  const UnitSections shared = SectionsOf(layer.ffn.shared), own = SectionsOf(layer.ffn.own);
  out.shared_up = elements(shared.up);
  out.shared_down = elements(shared.down);
  out.own_up = elements(own.up);
  out.own_down = elements(own.down);
  return out;
}

}  // namespace

bool StepLayers::Run(const TokenBatch& batch, absl::Span<const LayerCall> layers,
                     const FfnShape& ffn, const ExpertGroups& groups,
                     const LayerWorkspace& workspace, float* h) {
  if (layers.empty() || batch.rows.max > kStepRowsMax) return false;
  runtime_.Use();
  const AttentionShape& a = layers[0].attention;
  if (a.act != ActType::kBF16 || ffn.act != ActType::kBF16 || a.head_dim % 16 != 0 ||
      a.hidden > kStepHiddenMax || a.hidden % 16 != 0 || ffn.hidden != a.hidden) {
    return false;
  }
  RopeShape rope;
  StepProblem p = {};
  bool has_own = false;
  for (const LayerCall& layer : layers) {
    if (rope.dims == 0) rope = layer.attention.rope;
    if (!Takes(layer, layers[0], rope)) return false;
    p.mid_stride = std::max(p.mid_stride, layer.ffn.shared.width + layer.ffn.own.width);
    has_own |= layer.ffn.own.width > 0;
  }
  p.tokens = ToPaged(batch);
  p.heads = ToHeads(a);
  const size_t sums_bytes = SplitAttentionBytes(p.tokens, p.heads);
  if (sums_bytes == 0) return false;
  p.scale = a.scale;
  p.window = a.window;
  p.hidden = a.hidden;
  p.attention_eps = a.norm_eps;
  p.ffn_eps = ffn.norm_eps;
  p.attention_residual = a.residual;
  p.ffn_residual = ffn.residual;
  p.rotation = {rope.dims, rope.inv_freq, rope.scale, nullptr, nullptr, a.norm_eps};
  p.wire_bf16 = ffn.wire == WireType::kBF16;
  p.num_layers = static_cast<int>(layers.size());
  p.offsets = has_own ? groups.offsets : nullptr;
  p.order = groups.order;
  p.num_experts = groups.num_experts;
  p.h = h;
  p.q = workspace.q;
  p.act = workspace.act;
  const cudaDeviceProp& card = runtime_.properties();
  const StepLaunch launch = card.major < 9 ? StepLaunch{}
                                           : PlanStepLaunch(p, card.multiProcessorCount,
                                                            int(card.sharedMemPerBlockOptin));
  if (launch.slots == 0) return false;

  p.layers = PutLayers(layers);
  if (p.layers == nullptr) return false;
  p.tile_sums = tile_sums_.TryGet(sums_bytes);
  p.mid = mid_.TryGet(size_t{2} * batch.rows.max * p.mid_stride);
  p.barrier = static_cast<BarrierCounts*>(barrier_.TryGet(sizeof(BarrierCounts)));
  if (p.tile_sums == nullptr || p.mid == nullptr || p.barrier == nullptr) return false;
  RunStepKernel(runtime_.stream(), p, launch);
  return true;
}

bool StepLayers::IsCapturing() const {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(runtime_.handle(), &capture);
  return capture != cudaStreamCaptureStatusNone;
}

// Layers do not move, so this uploads only where a call takes others than the last one. Not into a graph,
// which would bring each time what its launch finds in the upload's memory.
const StepLayer* StepLayers::PutLayers(absl::Span<const LayerCall> layers) {
  staged_.clear();
  for (const LayerCall& layer : layers) staged_.push_back(ToStepLayer(layer));
  const size_t bytes = staged_.size() * sizeof(StepLayer);
  const bool is_there = uploaded_.size() == staged_.size() &&
                        std::memcmp(uploaded_.data(), staged_.data(), bytes) == 0;
  if (!is_there && IsCapturing()) return nullptr;
  auto* table = static_cast<StepLayer*>(table_.TryGet(bytes));
  if (table == nullptr || is_there) return table;
  uploads_.Upload(table, staged_.data(), bytes);
  uploaded_ = staged_;
  return table;
}

}  // namespace pregate::cuda

// What a warp of the step kernel works at, and in which order what it reads comes by its ring.
#pragma once

#include "common/device/cuda/rotary.cuh"
#include "common/device/cuda/split_attention.cuh"
#include "common/device/cuda/step_kernel.h"
#include "common/device/cuda/stream_ring.cuh"

namespace pregate::cuda {

enum Phase { kQkv, kAttend, kOut, kGateUp, kDown, kPhases };

// The problem as the kernel takes it.
struct StepArguments : StepProblem {
  AttentionProblem attention;  // without kv, which is each layer's
  TileSums sums;
  int x_width;  // the most inputs that a phase reads of a row
  WaitLimit waits;

  explicit StepArguments(const StepProblem& p, const WaitLimit& limit = {})
      : StepProblem(p),
        attention{p.tokens, p.heads, p.q, {nullptr, 0, true}, p.scale, p.window, true, p.act},
        sums(TileSums::At(p.tile_sums, p.tokens, p.heads, kTileKeys)) {
    const int q_width = heads.num_heads * heads.head_dim;
    x_width = hidden > q_width ? hidden : q_width;
    if (mid_stride > x_width) x_width = mid_stride;
    waits = limit;
  }
};

// What a block knows of the step's experts.
struct Experts {
  int num_active;
  int expert[kStepRowsMax];      // [num_active]
  int row_active[kStepRowsMax];  // index into `expert`; -1: none

  __device__ void Find(const StepArguments& p) {  // by one thread
    num_active = 0;
    for (int r = 0; r < kStepRowsMax; ++r) row_active[r] = -1;
    if (p.offsets == nullptr) return;
    for (int e = 0; e < p.num_experts; ++e) {
      const int begin = p.offsets[e], end = p.offsets[e + 1];
      if (begin == end) continue;
      for (int i = begin; i < end; ++i) row_active[p.order[i]] = num_active;
      expert[num_active++] = e;
    }
  }
};

// What a warp finds of the step in shared memory.
struct Stack {
  const StepArguments& p;
  const StepLayer* layers;    // [num_layers]
  const Bf16* const* own;     // [num_layers][kStepRowsMax] images of the active experts
  const Bf16* const* shared;  // [num_layers]
  const Experts& experts;
  const SplitRows& rows;
  int num_warps;  // of the grid

  __device__ int units(int layer, int phase) const {
    const StepLayer& l = layers[layer];
    if (phase == kQkv) {
      return (p.heads.num_heads + 2 * p.heads.num_kv_heads) * p.heads.head_dim / 16;
    }
    if (phase == kAttend) return rows.num_items(p.heads);
    if (phase == kGateUp) return l.shared_width / 8 + experts.num_active * (l.own_width / 8);
    return parts(layer, phase) > 0 ? p.hidden / 8 : 0;
  }
  // Strips that one unit adds up: of down, the shared part's and each active expert's.
  __device__ int parts(int layer, int phase) const {
    if (phase != kDown) return 1;
    const StepLayer& l = layers[layer];
    return (l.shared_width > 0) + (l.own_width > 0 ? experts.num_active : 0);
  }
  __device__ PagedKv kv(int layer) const {
    return {layers[layer].kv, layers[layer].num_blocks, true};
  }
};

// All that a warp reads, layer after layer: strips of weights, and tiles of keys and values.
template <int kDims>
class StepSource {
 public:
  // Before the first unit of `warp`; Advance comes next.
  __device__ StepSource(const Stack& stack, int warp) : unit_(warp - stack.num_warps) {}
  __device__ bool done(const Stack& s) const { return layer_ == s.p.num_layers; }
  // True: the unit's part is issued, and Advance comes next.
  __device__ bool Issue(const Stack& s, uint32_t slot) {
    if (phase_ == kAttend) {
      tile_.Issue(slot, s.p.heads.head_dim);
      return tile_.done();
    }
    strip_.Issue(slot);
    return strip_.done();
  }
  __device__ void Advance(const Stack& s) {
    if (unit_ >= 0 && ++part_ < s.parts(layer_, phase_)) {
      strip_ = At(s);
      return;
    }
    part_ = 0;
    unit_ += s.num_warps;
    Settle(s);
  }

 private:
  // Goes on to a unit that exists: counting runs on from phase to phase, so that a warp with a unit
  // less in one of them comes first in the next.
  __device__ void Settle(const Stack& s) {
    while (unit_ >= s.units(layer_, phase_)) {
      unit_ -= s.units(layer_, phase_);
      if (++phase_ < kPhases) continue;
      phase_ = 0;
      if (++layer_ == s.p.num_layers) return;
    }
    if (phase_ == kAttend) {
      tile_.Begin(s.rows, SplitItem(s.rows, s.p.heads, unit_), s.kv(layer_), s.p.heads);
    } else {
      strip_ = At(s);
    }
  }
  __device__ Strip At(const Stack& s) const {
    const StepLayer& l = s.layers[layer_];
    const int hidden = s.p.hidden;
    const Heads& heads = s.p.heads;
    if (phase_ == kQkv) {
      const HeadStrip strip(heads, l.rotates, unit_);
      const Bf16* rows = static_cast<const Bf16*>(l.qkv) +
                         (int64_t{strip.head} * heads.head_dim + strip.channel) * hidden;
      return {rows, rows + int64_t{strip.rotated ? heads.head_dim / 2 : 8} * hidden, hidden};
    }
    if (phase_ == kOut) {
      const int inputs = heads.num_heads * heads.head_dim;
      return {static_cast<const Bf16*>(l.o) + int64_t{unit_} * 8 * inputs, nullptr, inputs};
    }
    if (phase_ == kGateUp) {
      int unit = unit_, width = l.shared_width, up = l.shared_up;
      const Bf16* image = s.shared[layer_];
      if (unit >= width / 8) {
        unit -= width / 8;
        width = l.own_width;
        up = l.own_up;
        image = s.own[layer_ * kStepRowsMax + unit / (width / 8)];
        unit %= width / 8;
      }
      const Bf16* gate = image + int64_t{unit} * 8 * hidden;
      return {gate, gate + up, hidden};
    }
    const bool shared = part_ == 0 && l.shared_width > 0;
    const int width = shared ? l.shared_width : l.own_width;
    const Bf16* image =
        shared ? s.shared[layer_] : s.own[layer_ * kStepRowsMax + part_ - (l.shared_width > 0)];
    return {image + (shared ? l.shared_down : l.own_down) + int64_t{unit_} * 8 * width, nullptr,
            width};
  }

  int unit_, layer_ = 0, phase_ = 0, part_ = 0;
  Strip strip_;
  TileStream<kDims> tile_;
};

}  // namespace pregate::cuda

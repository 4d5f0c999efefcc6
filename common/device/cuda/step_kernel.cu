// A block a multiprocessor, eight warps each, which walk through the layers together:
//
//   rows    norm of h into shared memory, by every block for itself
//   qkv     strips of weights times the rows; rope; k and v go into the paged KV
//   attend  tiles of keys (split_attention.cuh)
//   o       h += output
//   rows    norm of h
//   gate-up of the shared part and of the experts that the step has; SwiGLU
//   down    h += S + round(O)
//
// with a barrier over the grid after each. Products are strips of 8 weight rows times up to 8 rows of
// x; a warp takes every (8 blocks)-th strip. Its ring of weights (weight_ring.cuh) runs on over the
// barriers: experts were named before the step, so every address is known when the kernel starts.
// Sums have the order of the operations that the halves of a layer are composed of, so bits are the
// same.
#include <algorithm>

#include "common/device/cuda/publish.cuh"
#include "common/device/cuda/rms_norm.cuh"
#include "common/device/cuda/rotary.cuh"
#include "common/device/cuda/split_attention.cuh"
#include "common/device/cuda/step_kernel.h"
#include "common/device/cuda/stream_ring.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = kNormThreads / 32;
constexpr int kThreads = kWarps * 32;
enum Phase { kQkv, kAttend, kOut, kGateUp, kDown, kPhases };

// The problem as the kernel takes it.
struct StepArguments : StepProblem {
  AttentionProblem attention;  // without kv, which is each layer's
  TileSums sums;
  int x_width;  // the most inputs that a phase reads of a row

  explicit StepArguments(const StepProblem& p)
      : StepProblem(p),
        attention{p.tokens, p.heads, p.q, {nullptr, 0, true}, p.scale, p.window, true, p.act},
        sums(TileSums::At(p.tile_sums, p.tokens, p.heads)) {
    const int q_width = heads.num_heads * heads.head_dim;
    x_width = hidden > q_width ? hidden : q_width;
    if (mid_stride > x_width) x_width = mid_stride;
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

__host__ __device__ int64_t SectionElements(int width, int hidden) {
  return (int64_t{width} * hidden * 2 + 255) / 256 * 256 / 2;
}

// What a warp finds of the step in shared memory.
struct Stack {
  const StepArguments& p;
  const StepLayer* layers;    // [num_layers]
  const Bf16* const* own;     // [num_layers][kStepRowsMax] images of the active experts
  const Bf16* const* shared;  // [num_layers]
  const Experts& experts;
  const SplitRows& rows;
  int first_warp, num_warps;  // of the grid

  __device__ int units(int layer, int phase) const {
    const StepLayer& l = layers[layer];
    if (phase == kQkv) {
      return (p.heads.num_heads + 2 * p.heads.num_kv_heads) * p.heads.head_dim / kStripRows;
    }
    if (phase == kAttend) return rows.num_items(p.heads);
    if (phase == kGateUp) return l.shared_width / 4 + experts.num_active * (l.own_width / 4);
    return p.hidden / kStripRows;
  }
  // Strips that one unit adds up: of down, the shared part's and each active expert's.
  __device__ int parts(int layer, int phase) const {
    if (phase != kDown) return 1;
    const StepLayer& l = layers[layer];
    return (l.shared_width > 0) + (l.own_width > 0 ? experts.num_active : 0);
  }
  // Each phase starts with another warp, so that what is left over goes round.
  __device__ int first_unit(int layer, int phase) const {
    return (first_warp + (layer * kPhases + phase) * 397) % num_warps;
  }
  __device__ PagedKv kv(int layer) const {
    return {layers[layer].kv, layers[layer].num_blocks, true};
  }
};

// A channel pair's half of a head: the strip of four channels and their partners.
struct HeadStrip {
  int head, channel;
  bool rotated;

  __device__ HeadStrip(const Stack& s, const StepLayer& layer, int unit) {
    const Heads& heads = s.p.heads;
    const int per_head = heads.head_dim / kStripRows;
    head = unit / per_head;
    rotated = layer.rotates && head < heads.num_heads + heads.num_kv_heads;
    channel = unit % per_head * (rotated ? kStripRows / 2 : kStripRows);
  }
};

// All that a warp reads, layer after layer: strips of weights, and tiles of keys and values.
template <int kDims>
class StepSource {
 public:
  __device__ explicit StepSource(const Stack* stack) : s_(stack) {
    unit_ = s_->first_unit(0, 0);
    Settle();
  }
  __device__ void Issue(uint32_t slot) {
    if (layer_ == s_->p.num_layers) return;
    if (phase_ == kAttend) {
      tile_.Issue(slot, s_->p.heads.head_dim);
      if (!tile_.done()) return;
    } else {
      strip_.Issue(slot);
      if (!strip_.done()) return;
      if (++part_ < s_->parts(layer_, phase_)) {
        strip_ = At();
        return;
      }
      part_ = 0;
    }
    unit_ += s_->num_warps;
    Settle();
  }

 private:
  __device__ void Settle() {  // on a unit that exists
    while (unit_ >= s_->units(layer_, phase_)) {
      if (++phase_ == kPhases) {
        phase_ = 0;
        if (++layer_ == s_->p.num_layers) return;
      }
      unit_ = s_->first_unit(layer_, phase_);
    }
    if (phase_ == kAttend) {
      tile_.Begin(s_->rows, SplitItem(s_->rows, s_->p.heads, unit_), s_->kv(layer_), s_->p.heads);
    } else {
      strip_ = At();
    }
  }
  __device__ Strip At() const {
    const StepLayer& l = s_->layers[layer_];
    const int hidden = s_->p.hidden;
    const Heads& heads = s_->p.heads;
    if (phase_ == kQkv) {
      const HeadStrip strip(*s_, l, unit_);
      const int row = strip.head * heads.head_dim + strip.channel;
      return Rows(l.qkv, 0, row, row + (strip.rotated ? heads.head_dim / 2 : 4), hidden);
    }
    if (phase_ == kOut) {
      return Rows(l.o, 0, unit_ * kStripRows, unit_ * kStripRows + 4,
                  heads.num_heads * heads.head_dim);
    }
    if (phase_ == kGateUp) {
      int unit = unit_, width = l.shared_width;
      const Bf16* image = s_->shared[layer_];
      if (unit >= width / 4) {
        unit -= width / 4;
        width = l.own_width;
        image = s_->own[layer_ * kStepRowsMax + unit / (width / 4)];
        unit %= width / 4;
      }
      const Strip gate = Rows(image, 0, unit * 4, 0, hidden);
      return {gate.first, gate.first + SectionElements(width, hidden), hidden};
    }
    const bool shared = part_ == 0 && l.shared_width > 0;
    const int width = shared ? l.shared_width : l.own_width;
    const Bf16* image =
        shared ? s_->shared[layer_] : s_->own[layer_ * kStepRowsMax + part_ - (l.shared_width > 0)];
    return Rows(image, 2 * SectionElements(width, hidden), unit_ * kStripRows,
                unit_ * kStripRows + 4, width);
  }
  __device__ static Strip Rows(const void* matrix, int64_t section, int first, int second,
                               int inputs) {
    const Bf16* rows = static_cast<const Bf16*>(matrix) + section;
    return {rows + int64_t{first} * inputs, rows + int64_t{second} * inputs, inputs};
  }

  const Stack* s_;
  int layer_ = 0, phase_ = 0, unit_, part_ = 0;
  Strip strip_;
  TileStream<kDims> tile_;
};

// What a block's threads published before, every block sees after.
class Barrier {
 public:
  __device__ Barrier(unsigned* arrivals, unsigned before) : arrivals_(arrivals), target_(before) {}
  __device__ void Wait(Publisher& publisher) {
    target_ += gridDim.x;
    publisher.Await();
    __syncthreads();
    if (threadIdx.x == 0) {
      asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(arrivals_) : "memory");
      unsigned seen;
      do {
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
                     : "=r"(seen)
                     : "l"(arrivals_)
                     : "memory");
      } while (static_cast<int>(seen - target_) < 0);
    }
    __syncthreads();
  }

 private:
  unsigned* const arrivals_;
  unsigned target_;
};

// From one row of x in shared memory to the next (XAddress).
__host__ __device__ inline int XRowBytes(int width) { return (width * 2 + 127) / 128 * 128 + 16; }

struct Memory {
  float warp_sums[kStepRowsMax][kWarps];
  Experts experts;
  SplitRows rows;
};

template <int kDims, int kSlots>
class StepBlock {
 public:
  using Ring = StreamRing<StepSource<kDims>, kSlots>;

  __device__ StepBlock(const StepArguments& p, const Stack& stack, Memory& m, Bf16* x, Ring& ring,
                       int num_rows)
      : p_(p),
        stack_(stack),
        m_(m),
        ring_(ring),
        num_rows_(num_rows),
        x_(x),
        x_bytes_(XRowBytes(p.x_width)),
        x_lane_(XAddress(x, x_bytes_, p.tokens.rows.max)),
        barrier_(p.arrivals, p.arrived_before) {}

  __device__ void Run() {
    const int q_width = p_.heads.num_heads * p_.heads.head_dim;
    for (int l = 0; l < p_.num_layers; ++l) {
      const StepLayer& layer = stack_.layers[l];
      const PagedKv kv = stack_.kv(l);
      StageNorm(layer.attention_norm, p_.attention_eps);
      ForUnits(l, kQkv, [&](int unit) { Qkv(layer, kv, unit); });
      barrier_.Wait(publisher_);
      const SplitAttentionWarp<kDims> attention(p_.attention, kv, m_.rows, p_.sums);
      ForUnits(l, kAttend, [&](int item) { attention.Run(ring_, item, publisher_); });
      barrier_.Wait(publisher_);
      StageRows(static_cast<const Bf16*>(p_.act), q_width, q_width);
      ForUnits(l, kOut, [&](int unit) { Out(q_width, unit); });
      barrier_.Wait(publisher_);
      StageNorm(layer.ffn_norm, p_.ffn_eps);
      ForUnits(l, kGateUp, [&](int unit) { GateUp(layer, unit); });
      barrier_.Wait(publisher_);
      StageRows(static_cast<const Bf16*>(p_.mid), layer.shared_width + layer.own_width,
                p_.mid_stride);
      ForUnits(l, kDown, [&](int unit) { Down(layer, unit); });
      if (l + 1 < p_.num_layers) barrier_.Wait(publisher_);
    }
  }

 private:
  template <class F>
  __device__ void ForUnits(int layer, int phase, const F& f) {
    const int units = stack_.units(layer, phase);
    for (int u = stack_.first_unit(layer, phase); u < units; u += stack_.num_warps) f(u);
  }
  __device__ Bf16* XRow(int r) const {
    return reinterpret_cast<Bf16*>(reinterpret_cast<char*>(x_) + r * x_bytes_);
  }

  // x = round(norm(h)), some rows at a time: all of their loads go out together.
  __device__ void StageNorm(const float* weights, float eps) {
    constexpr int kRows = 4, kLoads = kStepHiddenMax / kNormStep;
    for (int first = 0; first < num_rows_; first += kRows) {
      float4 v[kRows][kLoads], w[kLoads];
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        const int c = 4 * threadIdx.x + j * kNormStep;
        if (c >= p_.hidden) continue;
        w[j] = *reinterpret_cast<const float4*>(weights + c);
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          if (first + i >= num_rows_) continue;
          v[i][j] = FourChannels(p_.h + int64_t{first + i} * p_.hidden, c, p_.hidden, true);
        }
      }
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (first + i >= num_rows_) break;
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kLoads; ++j) {
          if (4 * threadIdx.x + j * kNormStep < p_.hidden) sum = AddSquares(sum, v[i][j]);
        }
        sum = WarpSum(sum);
        if (threadIdx.x % 32 == 0) m_.warp_sums[first + i][threadIdx.x / 32] = sum;
      }
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (first + i >= num_rows_) break;
        const float scale = NormScale(m_.warp_sums[first + i], p_.hidden, eps);
#pragma unroll
        for (int j = 0; j < kLoads; ++j) {
          const int c = 4 * threadIdx.x + j * kNormStep;
          if (c >= p_.hidden) continue;
          const __nv_bfloat162 low = __floats2bfloat162_rn(Normed(v[i][j].x, scale, w[j].x),
                                                           Normed(v[i][j].y, scale, w[j].y));
          const __nv_bfloat162 high = __floats2bfloat162_rn(Normed(v[i][j].z, scale, w[j].z),
                                                            Normed(v[i][j].w, scale, w[j].w));
          *reinterpret_cast<uint2*>(XRow(first + i) + c) = uint2{
              *reinterpret_cast<const uint32_t*>(&low), *reinterpret_cast<const uint32_t*>(&high)};
        }
      }
    }
    __syncthreads();
  }
  __device__ void StageRows(const Bf16* from, int width, int stride) {
    for (int r = 0; r < num_rows_; ++r) {
      const uint4* row = reinterpret_cast<const uint4*>(from + int64_t{r} * stride);
      for (int i = threadIdx.x; i < width / 8; i += kThreads) {
        reinterpret_cast<uint4*>(XRow(r))[i] = __ldcg(row + i);
      }
    }
    __syncthreads();
  }

  // Lane (g, t) has row g's outputs 2t and 2t + 1 of the strip.
  __device__ int row() const { return threadIdx.x % 32 / 4; }
  __device__ int pair() const { return threadIdx.x % 4; }

  __device__ void Qkv(const StepLayer& layer, const PagedKv& kv, int unit) {
    float sums[2];
    MultiplyStrip(ring_, p_.hidden, x_lane_, sums);
    const HeadStrip strip(stack_, layer, unit);
    int channel = strip.channel + 2 * pair();
    if (strip.rotated) {
      const bool second = pair() >= 2;
      const int first_channel = strip.channel + 2 * (pair() % 2);
      float partner[2];
      for (int i = 0; i < 2; ++i) partner[i] = __shfl_xor_sync(~0u, sums[i], 2);
      if (row() >= num_rows_) return;
      for (int i = 0; i < 2; ++i) {
        const Turn turn(m_.rows.position[row()], p_.rotation.inv_freq[first_channel + i],
                        p_.rotation.scale);
        sums[i] = second ? turn.Second(partner[i], sums[i]) : turn.First(sums[i], partner[i]);
      }
      channel = first_channel + (second ? p_.heads.head_dim / 2 : 0);
    }
    if (row() >= num_rows_) return;
    const Heads& heads = p_.heads;
    if (strip.head < heads.num_heads) {
      publisher_.PutPair(
          p_.q + (int64_t{row()} * heads.num_heads + strip.head) * heads.head_dim + channel,
          sums[0], sums[1]);
      return;
    }
    const KvBlocks<Bf16> blocks(kv, heads, m_.rows.block_table[row()]);
    const int kv_head = strip.head - heads.num_heads, position = m_.rows.position[row()];
    Bf16* to = kv_head < heads.num_kv_heads ? blocks.key(kv_head, position)
                                            : blocks.value(kv_head - heads.num_kv_heads, position);
    publisher_.PutPair(to + channel, sums[0], sums[1]);
  }

  __device__ void Out(int inputs, int unit) {
    float2* h = HAt(unit);
    const float2 before = row() < num_rows_ ? __ldcg(h) : float2{0, 0};
    float sums[2];
    MultiplyStrip(ring_, inputs, x_lane_, sums);
    if (row() < num_rows_) AddTo(h, before, p_.attention_residual, sums[0], sums[1]);
  }

  // Outputs 0 to 3 of the strip are gate's, 4 to 7 up's, of the same neurons.
  __device__ void GateUp(const StepLayer& layer, int unit) {
    float sums[2];
    MultiplyStrip(ring_, p_.hidden, x_lane_, sums);
    float up[2];
    for (int i = 0; i < 2; ++i) up[i] = __shfl_xor_sync(~0u, sums[i], 2);
    if (row() >= num_rows_ || pair() >= 2) return;
    int column = unit * 4;
    if (column >= layer.shared_width) {
      const int own = column - layer.shared_width;
      if (m_.experts.row_active[row()] != own / layer.own_width) return;
      column = layer.shared_width + own % layer.own_width;
    }
    Bf16* to = static_cast<Bf16*>(p_.mid) + int64_t{row()} * p_.mid_stride + column + 2 * pair();
    publisher_.PutPair(to, __fmul_rn(Silu(sums[0]), up[0]), __fmul_rn(Silu(sums[1]), up[1]));
  }

  __device__ void Down(const StepLayer& layer, int unit) {
    float2* h = HAt(unit);
    const float2 before = row() < num_rows_ ? __ldcg(h) : float2{0, 0};
    float total[2] = {};
    if (layer.shared_width > 0) MultiplyStrip(ring_, layer.shared_width, x_lane_, total);
    float own[2] = {};
    for (int e = 0; e < m_.experts.num_active && layer.own_width > 0; ++e) {
      float sums[2];
      MultiplyStrip(ring_, layer.own_width, x_lane_ + layer.shared_width * 2, sums);
      if (row() < num_rows_ && m_.experts.row_active[row()] == e)
        own[0] = sums[0], own[1] = sums[1];
    }
    if (row() >= num_rows_) return;
    if (layer.own_width > 0) {
      for (int i = 0; i < 2; ++i) {
        total[i] = __fadd_rn(total[i], p_.wire_bf16 ? ToFloat(FromFloat<Bf16>(own[i])) : own[i]);
      }
    }
    AddTo(h, before, p_.ffn_residual, total[0], total[1]);
  }

  __device__ float2* HAt(int unit) const {
    return reinterpret_cast<float2*>(p_.h + int64_t{row()} * p_.hidden + unit * kStripRows +
                                     2 * pair());
  }
  __device__ void AddTo(float2* h, const float2& before, float scale, float a, float b) {
    publisher_.Put(h, float2{__fadd_rn(before.x, __fmul_rn(scale, a)),
                             __fadd_rn(before.y, __fmul_rn(scale, b))});
  }

  const StepArguments& p_;
  const Stack& stack_;
  Memory& m_;
  Ring& ring_;
  const int num_rows_;
  Bf16* const x_;
  const int x_bytes_;
  const uint32_t x_lane_;
  Barrier barrier_;
  Publisher publisher_;
};

// What lies in dynamic shared memory behind the ring.
struct Layout {
  int x, layers, own, shared, end;

  __host__ __device__ Layout(const StepArguments& p, int slots) {
    x = kWarps * slots * kSlotBytes;
    layers = x + p.tokens.rows.max * XRowBytes(p.x_width);
    own = layers + p.num_layers * static_cast<int>(sizeof(StepLayer));
    shared = own + p.num_layers * kStepRowsMax * static_cast<int>(sizeof(void*));
    end = shared + p.num_layers * static_cast<int>(sizeof(void*));
  }
};

template <int kDims, int kSlots>
__global__ void __launch_bounds__(kThreads, 1) StepKernel(const __grid_constant__ StepArguments p) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ Memory m;
  const Layout at(p, kSlots);
  auto* layers = reinterpret_cast<StepLayer*>(dynamic + at.layers);
  auto* own = reinterpret_cast<const Bf16**>(dynamic + at.own);
  auto* shared = reinterpret_cast<const Bf16**>(dynamic + at.shared);
  if (threadIdx.x == 0) m.experts.Find(p);
  if (threadIdx.x == 32) m.rows.Find(p.attention);
  for (int i = threadIdx.x; i < p.num_layers; i += kThreads) {
    layers[i] = p.layers[i];
    shared[i] =
        layers[i].shared_width > 0 ? static_cast<const Bf16*>(*layers[i].shared_unit) : nullptr;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.num_layers * kStepRowsMax; i += kThreads) {
    const StepLayer& layer = layers[i / kStepRowsMax];
    if (layer.own_width == 0 || i % kStepRowsMax >= m.experts.num_active) continue;
    own[i] = static_cast<const Bf16*>(layer.own_units[m.experts.expert[i % kStepRowsMax]]);
  }
  __syncthreads();
  const int warp = threadIdx.x / 32;
  const Stack stack = {p,
                       layers,
                       own,
                       shared,
                       m.experts,
                       m.rows,
                       static_cast<int>(warp * gridDim.x + blockIdx.x),
                       static_cast<int>(gridDim.x * kWarps)};
  typename StepBlock<kDims, kSlots>::Ring ring(dynamic + warp * kSlots * kSlotBytes,
                                               StepSource<kDims>(&stack));
  StepBlock<kDims, kSlots>(p, stack, m, reinterpret_cast<Bf16*>(dynamic + at.x), ring,
                           m.rows.num_rows)
      .Run();
}

// Rings have from kSlotsMin to kSlotsMax slots.
constexpr int kSlotsMin = 3, kSlotsMax = 6;
using Kernel = void (*)(StepArguments);
template <int kDims>
Kernel KernelOf(int slots) {
  constexpr Kernel kernels[] = {StepKernel<kDims, 3>, StepKernel<kDims, 4>, StepKernel<kDims, 5>,
                                StepKernel<kDims, 6>};
  return kernels[slots - kSlotsMin];
}

}  // namespace

StepLaunch PlanStepLaunch(const StepProblem& problem, int multiprocessors, int shared_bytes_max) {
  const StepArguments p(problem);
  const int left = shared_bytes_max - static_cast<int>(sizeof(Memory)) - Layout(p, 0).end;
  const int slots = std::min(kSlotsMax, left / (kWarps * kSlotBytes));
  if (slots < kSlotsMin) return {};
  return {multiprocessors, slots, Layout(p, slots).end};
}

void RunStepKernel(Stream& stream, const StepProblem& problem, const StepLaunch& launch) {
  const Kernel kernel =
      problem.heads.head_dim <= 64 ? KernelOf<64>(launch.slots) : KernelOf<128>(launch.slots);
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           launch.shared_bytes);
  StepArguments arguments(problem);
  void* parameters[] = {&arguments};
  if (error == cudaSuccess) {
    error = cudaLaunchCooperativeKernel(reinterpret_cast<void*>(kernel), launch.blocks, kThreads,
                                        parameters, launch.shared_bytes, stream.handle);
  }
  ++stream.num_launches;
  if (stream.error == cudaSuccess) stream.error = error;
}

}  // namespace pregate::cuda

// A block a multiprocessor, whose eight working warps walk through the layers together:
//
//   rows    norm of h into shared memory, by every block for itself
//   qkv     strips of weights times the rows; rope; k and v go into the paged KV
//   attend  tiles of keys (split_attention.cuh)
//   o       h += output
//   rows    norm of h
//   gate-up of the shared part and of the experts that the step has; SwiGLU
//   down    h += S + round(O)
//
// with a barrier over the grid before whatever reads what other blocks wrote. Products are strips of 16 or 8 weight rows times up to 8
// rows of x; a warp takes every (8 blocks)-th strip or tile. What it reads of weights, keys and values
// comes by a ring of its own (stream_ring.cuh), which one more warp keeps full: it runs on over the
// barriers, since experts were named before the step and every address is known when the kernel
// starts. Sums have the order of the operations that the halves of a layer are composed of, so bits
// are the same. Code is kept small: what a layer runs must fit the instruction cache.
#include <algorithm>

#include "common/device/cuda/grid_barrier.cuh"
#include "common/device/cuda/publish.cuh"
#include "common/device/cuda/rms_norm.cuh"
#include "common/device/cuda/rotary.cuh"
#include "common/device/cuda/step_source.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = kNormThreads / 32;  // that work
constexpr int kThreads = kWarps * 32;
__device__ void SyncWorkers() { asm volatile("bar.sync 1, %0;" ::"n"(kThreads) : "memory"); }

// From one row of x in shared memory to the next (XAddress).
__host__ __device__ inline int XRowBytes(int width) { return (width * 2 + 127) / 128 * 128 + 16; }

template <int kSlots>
struct Memory {
  RingBarriers<kSlots> rings[kWarps];
  float warp_sums[kStepRowsMax][kWarps];
  Experts experts;
  SplitRows rows;
  unsigned barrier_target;
};

template <int kDims, int kSlots>
class StepBlock {
 public:
  // x: rows in shared memory; turns [rows][head_dim / 2].
  __device__ StepBlock(const StepArguments& p, const Stack& stack, int warp, Memory<kSlots>& m,
                       Bf16* x, const Turn* turns, RingReader<kSlots>& ring)
      : p_(p),
        stack_(stack),
        unit_(warp),
        m_(m),
        ring_(ring),
        turns_(turns),
        num_rows_(m.rows.num_rows),
        x_(x),
        x_bytes_(XRowBytes(p.x_width)),
        x_lane_(XAddress(x, x_bytes_, p.tokens.rows.max)),
        barrier_(p.barrier, &m.barrier_target) {}

  // Both halves of a layer are rows, a product, and a product that h takes in.
  __device__ void Run() {
    if (threadIdx.x == 0) barrier_.Begin();
    const int q_width = p_.heads.num_heads * p_.heads.head_dim;
#pragma unroll 1
    for (int half = 0; half < 2 * p_.num_layers; ++half) {
      const int l = half / 2;
      const bool ffn = half % 2 == 1;
      const StepLayer& layer = stack_.layers[l];
      const float* norm = ffn ? layer.ffn_norm : layer.attention_norm;
      const float eps = ffn ? p_.ffn_eps : p_.attention_eps;
      num_rows_ == 1 ? StageNorm<1>(norm, eps) : StageNorm<4>(norm, eps);
      ForUnits(l, ffn ? kGateUp : kQkv, [&](int unit) {
        const StripSums sums = MultiplyStrip<16>(ring_, p_.hidden, x_lane_);
        ffn ? StoreMid(layer, unit, sums) : StoreHeads(l, unit, sums);
      });
      Wait();
      if (!ffn) {
        const SplitAttentionWarp<kDims> attention(p_.attention, stack_.kv(l), m_.rows, p_.sums);
        const int items = stack_.units(l, kAttend);
        unit_ = attention.RunAllAtOnce(ring_, unit_, stack_.num_warps, items, l + 1, publisher_) -
                items;
        Wait();
        if (l + 1 == p_.num_layers && blockIdx.x == 0) {
          attention.ForgetArrivals(kThreads, publisher_);
        }
      }
      StageRows(static_cast<const Bf16*>(ffn ? p_.mid : p_.act),
                ffn ? layer.shared_width + layer.own_width : q_width,
                ffn ? p_.mid_stride : q_width);
      ForUnits(l, ffn ? kDown : kOut, [&](int unit) {
        ffn ? AddUnit(unit, layer.shared_width, layer.own_width, p_.ffn_residual)
            : AddUnit(unit, q_width, 0, p_.attention_residual);
      });
      if (half + 1 < 2 * p_.num_layers) Wait();
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) barrier_.End();
  }

 private:
  // What a block's threads published before, every block sees after.
  __device__ void Wait() {
    publisher_.Await();
    SyncWorkers();
    if (threadIdx.x == 0) barrier_.Wait(ring_.deadline());
    SyncWorkers();
  }
  // The units that the warp's source has, in its order.
  template <class F>
  __device__ void ForUnits(int layer, int phase, const F& f) {
    const int units = stack_.units(layer, phase);
#pragma unroll 1
    for (; unit_ < units; unit_ += stack_.num_warps) f(unit_);
    unit_ -= units;
  }
  __device__ Bf16* XRow(int r) const {
    return reinterpret_cast<Bf16*>(reinterpret_cast<char*>(x_) + r * x_bytes_);
  }

  // x = round(norm(h)), kRows rows at a time: all of their loads go out together.
  template <int kRows>
  __device__ void StageNorm(const float* weights, float eps) {
    constexpr int kLoads = kStepHiddenMax / kNormStep;
    const int mine = 4 * threadIdx.x;
    const auto load = [&](const float* from, float4(&to)[kLoads]) {
#pragma unroll
      for (int j = 0; j < kLoads; ++j) {
        to[j] = mine + j * kNormStep < p_.hidden
                    ? __ldcg(reinterpret_cast<const float4*>(from + mine + j * kNormStep))
                    : float4{0, 0, 0, 0};
      }
    };
#pragma unroll 1
    for (int first = 0; first < num_rows_; first += kRows) {
      float4 v[kRows][kLoads], w[kLoads];
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        load(p_.h + int64_t{min(first + i, num_rows_ - 1)} * p_.hidden, v[i]);
      }
      load(weights, w);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kLoads; ++j) {
          if (mine + j * kNormStep < p_.hidden) sum = AddSquares(sum, v[i][j]);
        }
        sum = WarpReduce(sum, Sum());
        if (threadIdx.x % 32 == 0) m_.warp_sums[first + i][threadIdx.x / 32] = sum;
      }
      SyncWorkers();
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float scale = NormScale(m_.warp_sums[first + i], p_.hidden, eps);
#pragma unroll
        for (int j = 0; j < kLoads; ++j) {
          const __nv_bfloat162 low = __floats2bfloat162_rn(Normed(v[i][j].x, scale, w[j].x),
                                                           Normed(v[i][j].y, scale, w[j].y));
          const __nv_bfloat162 high = __floats2bfloat162_rn(Normed(v[i][j].z, scale, w[j].z),
                                                            Normed(v[i][j].w, scale, w[j].w));
          if (mine + j * kNormStep < p_.hidden && first + i < num_rows_) {
            *reinterpret_cast<uint2*>(XRow(first + i) + mine + j * kNormStep) =
                uint2{*reinterpret_cast<const uint32_t*>(&low),
                      *reinterpret_cast<const uint32_t*>(&high)};
          }
        }
      }
    }
    SyncWorkers();
  }
  __device__ void StageRows(const Bf16* from, int width, int stride) {
#pragma unroll 1
    for (int r = 0; r < num_rows_; ++r) {
      const uint32_t to = SharedAddress(XRow(r));
#pragma unroll 1
      for (int i = threadIdx.x; i < width / 8; i += kThreads) {
        CopyAsync16(to + i * 16, from + int64_t{r} * stride + i * 8);
      }
    }
    CopyCommit();
    CopyWait<0>();
    SyncWorkers();
  }

  // Heads of q, k and v, rotated, to where attention finds them.
  __device__ void StoreHeads(int l, int unit, StripSums sums) {
    const int row = sums.row();
    if (row >= num_rows_) return;
    const Heads& heads = p_.heads;
    const HeadStrip strip(heads, stack_.layers[l].rotates, unit);
    const int channel = strip.channel + sums.output();
    if (strip.rotated) {
      const Turn* turns = turns_ + row * (heads.head_dim / 2) + channel;
      const float2 a = sums.first, b = sums.second;
      sums.first = {turns[0].First(a.x, b.x), turns[1].First(a.y, b.y)};
      sums.second = {turns[0].Second(a.x, b.x), turns[1].Second(a.y, b.y)};
    }
    const int partner = channel + strip.to_partner(heads);
    if (strip.head < heads.num_heads) {
      float* q = p_.q + (int64_t{row} * heads.num_heads + strip.head) * heads.head_dim;
      publisher_.Put(reinterpret_cast<float2*>(q + channel), sums.first);
      publisher_.Put(reinterpret_cast<float2*>(q + partner), sums.second);
      return;
    }
    const KvBlocks<Bf16> blocks(stack_.kv(l), heads, m_.rows.block_table[row]);
    const int kv_head = strip.head - heads.num_heads;
    const bool is_value = kv_head >= heads.num_kv_heads;
    Bf16* to = blocks.key(kv_head - (is_value ? heads.num_kv_heads : 0), m_.rows.position[row]) +
               (is_value ? blocks.values_offset() : 0);
    publisher_.PutPair(to + channel, sums.first.x, sums.first.y);
    publisher_.PutPair(to + partner, sums.second.x, sums.second.y);
  }

  // The first eight outputs of the strip are gate's, the others up's, of the same neurons.
  __device__ void StoreMid(const StepLayer& layer, int unit, const StripSums& sums) {
    const int row = sums.row();
    if (row >= num_rows_) return;
    int column = unit * 8;
    if (column >= layer.shared_width) {
      const int own = column - layer.shared_width;
      if (m_.experts.row_active[row] != own / layer.own_width) return;
      column = layer.shared_width + own % layer.own_width;
    }
    publisher_.PutPair(
        static_cast<Bf16*>(p_.mid) + int64_t{row} * p_.mid_stride + column + sums.output(),
        __fmul_rn(Silu(sums.first.x), sums.second.x), __fmul_rn(Silu(sums.first.y), sums.second.y));
  }

  // h += scale (product of the first `width` inputs + round(product of the row's expert)), which
  // takes the own_width inputs behind. Either width may be 0.
  __device__ void AddUnit(int unit, int width, int own_width, float scale) {
    const int row = StripSums::row();
    float2* h =
        reinterpret_cast<float2*>(p_.h + int64_t{row} * p_.hidden + unit * 8 + StripSums::output());
    const bool is_row = row < num_rows_;
    const float2 before = is_row ? __ldcg(h) : float2{0, 0};
    const int experts = own_width > 0 ? m_.experts.num_active : 0;
    float2 total = {0, 0}, own = {0, 0};
#pragma unroll 1
    for (int part = width > 0 ? -1 : 0; part < experts; ++part) {
      const float2 sums = MultiplyStrip<8>(ring_, part < 0 ? width : own_width,
                                           x_lane_ + (part < 0 ? 0 : width * 2))
                              .first;
      if (part < 0) {
        total = sums;
      } else if (is_row && m_.experts.row_active[row] == part) {
        own = sums;
      }
    }
    if (!is_row) return;
    if (own_width > 0) total = {AddOwn(total.x, own.x), AddOwn(total.y, own.y)};
    publisher_.Put(h, float2{__fadd_rn(before.x, __fmul_rn(scale, total.x)),
                             __fadd_rn(before.y, __fmul_rn(scale, total.y))});
  }
  __device__ float AddOwn(float shared, float own) const {
    return __fadd_rn(shared, p_.wire_bf16 ? ToFloat(FromFloat<Bf16>(own)) : own);
  }

  const StepArguments& p_;
  const Stack& stack_;
  int unit_;  // the warp's next
  Memory<kSlots>& m_;
  RingReader<kSlots>& ring_;
  const Turn* const turns_;
  const int num_rows_;
  Bf16* const x_;
  const int x_bytes_;
  const uint32_t x_lane_;
  const GridBarrier barrier_;  // of thread 0
  Publisher publisher_;
};

// What lies in dynamic shared memory behind the ring.
struct Layout {
  int x, turns, layers, own, shared, end;

  __host__ __device__ Layout(const StepArguments& p, int slots) {
    const int rows = p.tokens.rows.max;
    x = kWarps * slots * kSlotBytes;
    turns = x + rows * XRowBytes(p.x_width);
    layers = turns + rows * (p.heads.head_dim / 2) * static_cast<int>(sizeof(Turn));
    own = layers + p.num_layers * static_cast<int>(sizeof(StepLayer));
    shared = own + p.num_layers * kStepRowsMax * static_cast<int>(sizeof(void*));
    end = shared + p.num_layers * static_cast<int>(sizeof(void*));
  }
};

// Of the 128 that each thread of a block of 512 begins with.
constexpr int kReaderRegisters = 176, kFillerRegisters = 80;

template <int kDims, int kSlots>
__global__ void __launch_bounds__(2 * kThreads, 1)
    StepKernel(const __grid_constant__ StepArguments p) {
  extern __shared__ __align__(128) unsigned char dynamic[];
  __shared__ Memory<kSlots> m;
  const Layout at(p, kSlots);
  auto* turns = reinterpret_cast<Turn*>(dynamic + at.turns);
  auto* layers = reinterpret_cast<StepLayer*>(dynamic + at.layers);
  auto* own = reinterpret_cast<const Bf16**>(dynamic + at.own);
  auto* shared = reinterpret_cast<const Bf16**>(dynamic + at.shared);
  const int warp = threadIdx.x / 32;
  if (threadIdx.x == 0) m.experts.Find(p);
  if (warp == 1) m.rows.Find(p.attention, /*stores=*/true);
  if (threadIdx.x % 32 == 0 && warp < kWarps) m.rings[warp].Init(p.waits);
  for (int i = threadIdx.x; i < p.num_layers; i += blockDim.x) {
    layers[i] = p.layers[i];
    shared[i] =
        layers[i].shared_width > 0 ? static_cast<const Bf16*>(*layers[i].shared_unit) : nullptr;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < p.num_layers * kStepRowsMax; i += blockDim.x) {
    const StepLayer& layer = layers[i / kStepRowsMax];
    if (layer.own_width == 0 || i % kStepRowsMax >= m.experts.num_active) continue;
    own[i] = static_cast<const Bf16*>(layer.own_units[m.experts.expert[i % kStepRowsMax]]);
  }
  const int half_dim = p.rotation.dims / 2;
  for (int i = threadIdx.x; i < m.rows.num_rows * half_dim; i += blockDim.x) {
    turns[i] =
        Turn(m.rows.position[i / half_dim], p.rotation.inv_freq[i % half_dim], p.rotation.scale);
  }
  __syncthreads();
  const Stack stack = {
      p, layers, own, shared, m.experts, m.rows, static_cast<int>(gridDim.x * kWarps)};
  // A warp works, another one fills its ring.
  const int ring = warp % kWarps, of_grid = ring * gridDim.x + blockIdx.x;
  unsigned char* slots = dynamic + ring * kSlots * kSlotBytes;
  if (warp < kWarps) {
    TakeMoreRegisters<kReaderRegisters>();
    RingReader<kSlots> reader(slots, m.rings[ring]);
    StepBlock<kDims, kSlots>(p, stack, of_grid, m, reinterpret_cast<Bf16*>(dynamic + at.x), turns,
                             reader)
        .Run();
  } else {
    KeepFewerRegisters<kFillerRegisters>();
    RingFiller<StepSource<kDims>, kSlots> filler(slots, m.rings[ring],
                                                 StepSource<kDims>(stack, of_grid));
    filler.Run(stack);
  }
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
  constexpr int kStatic = (static_cast<int>(sizeof(Memory<kSlotsMax>)) + 255) / 128 * 128;
  const int left = shared_bytes_max - kStatic - Layout(p, 0).end;
  const int slots = std::min(kSlotsMax, left / (kWarps * kSlotBytes));
  if (slots < kSlotsMin) return {};
  return {multiprocessors, slots, Layout(p, slots).end};
}

void RunStepKernel(Stream& stream, const StepProblem& problem, const StepLaunch& launch) {
  const Kernel kernel =
      problem.heads.head_dim <= 64 ? KernelOf<64>(launch.slots) : KernelOf<128>(launch.slots);
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           launch.shared_bytes);
  StepArguments arguments(problem, stream.waits(WaitingKernel::kStep));
  void* parameters[] = {&arguments};
  if (error == cudaSuccess) {
    error =
        cudaLaunchCooperativeKernel(reinterpret_cast<void*>(kernel), launch.blocks, 2 * kThreads,
                                    parameters, launch.shared_bytes, stream.handle);
  }
  ++stream.num_launches;
  if (stream.error == cudaSuccess) stream.error = error;
  if (error != cudaSuccess) cudaGetLastError();  // else the next launch reports it again
}

}  // namespace pregate::cuda

// Causal attention over paged keys and values for all types: a block takes one head of one token,
// a warp each one tile of 32 keys at a time; the tiles are merged in order (attention.cuh).
#include <algorithm>

#include "common/device/cuda/attention.cuh"
#include "common/device/cuda/tile_sums.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kKeys = 32;                    // of a tile: a lane each
constexpr int kLaneDims = kHeadDimMax / 32;  // dimension i belongs to lane i % 32

// One chain of sums over the dimensions in order, whichever way they are read.
template <class T>
__device__ float Dot(const float* q, const T* key, int d) {
  constexpr int kVector = 16 / sizeof(T), kAtOnce = 16;  // vectors
  float sum = 0;
  if (d % kVector != 0) {
    for (int i = 0; i < d; ++i) sum = fmaf(q[i], ToFloat(key[i]), sum);
    return sum;
  }
#pragma unroll 1
  for (int first = 0; first < d; first += kAtOnce * kVector) {
    uint4 bits[kAtOnce];
#pragma unroll
    for (int v = 0; v < kAtOnce; ++v) {
      const int i = first + v * kVector;
      if (i < d) bits[v] = *reinterpret_cast<const uint4*>(key + i);
    }
#pragma unroll
    for (int v = 0; v < kAtOnce; ++v) {
      const int i = first + v * kVector;
      if (i >= d) break;
      const T* part = reinterpret_cast<const T*>(bits + v);
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum = fmaf(q[i + j], ToFloat(part[j]), sum);
    }
  }
  return sum;
}

// A warp's sums of one tile of keys; lane l has channels l + 32 i.
struct TileOut {
  float top, sum, out[kLaneDims];
};

template <class T>
__device__ TileOut AttendTile(const AttentionProblem& p, const KvBlocks<T>& blocks, int kv_head,
                              const float* q, int first, int num_keys) {
  const int lane = threadIdx.x % 32, d = p.heads.head_dim;
  const int key = first + lane;
  const bool seen = key < num_keys && key >= p.FirstKey(num_keys - 1);
  const float scale = __fmul_rn(p.scale, kLog2E);
  const float x = seen ? __fmul_rn(Dot(q, blocks.key(kv_head, key), d), scale) : -INFINITY;
  TileOut tile = {};
  tile.top = WarpReduce(ceilf(x), Largest());
  const float weight = seen ? exp2f(x - tile.top) : 0;
  // Keys that are not seen are left out: 0 times their values need not be 0.
  const int begin = max(0, p.FirstKey(num_keys - 1) - first), end = min(kKeys, num_keys - first);
#pragma unroll 1
  for (int half = 0; half < kKeys; half += kBlockTokens) {
    if (half >= end) break;
    const T* values = blocks.value(kv_head, first + half) + lane;
#pragma unroll
    for (int j = 0; j < kBlockTokens; ++j) {
      const float w = __shfl_sync(~0u, weight, half + j);
      if (half + j < begin || half + j >= end) continue;
      tile.sum += w;
#pragma unroll
      for (int i = 0; i < kLaneDims; ++i) {
        if (lane + 32 * i < d) tile.out[i] = fmaf(w, ToFloat(values[j * d + 32 * i]), tile.out[i]);
      }
    }
  }
  return tile;
}

template <class T, class Out>
__global__ void __launch_bounds__(kWarps * 32) AttentionKernel(AttentionProblem p) {
  __shared__ float q[kHeadDimMax];
  __shared__ float tops[kWarps], sums[kWarps], outs[kWarps][kHeadDimMax];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channel = threadIdx.x;
  const int r = blockIdx.x, head = blockIdx.y, d = p.heads.head_dim;
  AwaitKernelsBefore();
  if (r >= *p.tokens.rows.num) return;
  const int kv_head = head / (p.heads.num_heads / p.heads.num_kv_heads);
  const int num_keys = p.tokens.positions[r] + 1;
  const KvBlocks<T> blocks(p.kv, p.heads, p.tokens, r);
  const int64_t at = (int64_t{r} * p.heads.num_heads + head) * d;
  if (channel < d) q[channel] = p.q[at + channel];
  __syncthreads();

  RunningTop top;
  float sum = 0, out = 0;
  for (int first = p.FirstKey(num_keys - 1) / kKeys * kKeys; first < num_keys;
       first += kWarps * kKeys) {
    const int mine = first + warp * kKeys;
    if (mine < num_keys) {
      const TileOut tile = AttendTile(p, blocks, kv_head, q, mine, num_keys);
      if (lane == 0) tops[warp] = tile.top, sums[warp] = tile.sum;
#pragma unroll
      for (int i = 0; i < kLaneDims; ++i) outs[warp][lane + 32 * i] = tile.out[i];
    }
    __syncthreads();
    for (int w = 0; w < kWarps && first + w * kKeys < num_keys; ++w) {
      float keep, gain;
      top.Take(tops[w], keep, gain);
      sum = Merged(sum, keep, sums[w], gain);
      out = Merged(out, keep, outs[w][min(channel, kHeadDimMax - 1)], gain);
    }
    __syncthreads();
  }
  if (channel < d) static_cast<Out*>(p.out)[at + channel] = FromFloat<Out>(__fdiv_rn(out, sum));
}

// The same with a row's tiles spread over blocks, a few each; the block that ends last adds them up.
constexpr int kFewWarps = 4;
constexpr int kSpreadMax = 64;  // blocks of a row and head

template <class T, class Out>
__global__ void __launch_bounds__(kFewWarps * 32)
    SpreadAttentionKernel(AttentionProblem p, TileSums scratch, int tiles_max) {
  __shared__ float q[kHeadDimMax];
  __shared__ bool is_last;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int r = blockIdx.x, head = blockIdx.y, d = p.heads.head_dim;
  AwaitKernelsBefore();
  if (r >= *p.tokens.rows.num) return;
  const int kv_head = head / (p.heads.num_heads / p.heads.num_kv_heads);
  const int num_keys = p.tokens.positions[r] + 1;
  const int first_tile = p.FirstKey(num_keys - 1) / kKeys;
  const int tiles = CeilDiv(num_keys, kKeys) - first_tile;
  const int blocks_used = min(static_cast<int>(gridDim.z), CeilDiv(tiles, kFewWarps));
  if (static_cast<int>(blockIdx.z) >= blocks_used) return;
  const KvBlocks<T> blocks(p.kv, p.heads, p.tokens, r);
  const int row_head = r * p.heads.num_heads + head;
  const int64_t at = int64_t{row_head} * d;
  for (int c = threadIdx.x; c < d; c += kFewWarps * 32) q[c] = p.q[at + c];
  __syncthreads();
  float2* tops = scratch.tops + int64_t{row_head} * tiles_max;
  float* outs = scratch.out + int64_t{row_head} * tiles_max * d;
  for (int tile = blockIdx.z * kFewWarps + warp; tile < tiles; tile += gridDim.z * kFewWarps) {
    const TileOut mine = AttendTile(p, blocks, kv_head, q, (first_tile + tile) * kKeys, num_keys);
    if (lane == 0) tops[tile] = {mine.top, mine.sum};
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) {
      if (lane + 32 * i < d) outs[int64_t{tile} * d + lane + 32 * i] = mine.out[i];
    }
  }
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(scratch.arrived + row_head, 1) == blocks_used - 1;
    if (is_last) scratch.arrived[row_head] = 0;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  for (int c = threadIdx.x; c < d; c += kFewWarps * 32) {
    RunningTop top;
    float sum = 0, out = 0;
#pragma unroll 8
    for (int i = 0; i < tiles; ++i) {
      const float2 of_tile = __ldcg(tops + i);
      float keep, gain;
      top.Take(of_tile.x, keep, gain);
      sum = Merged(sum, keep, of_tile.y, gain);
      out = Merged(out, keep, __ldcg(outs + int64_t{i} * d + c), gain);
    }
    static_cast<Out*>(p.out)[at + c] = FromFloat<Out>(__fdiv_rn(out, sum));
  }
}

// Of spreading keys that are no bf16; 0 where there is enough to do without.
constexpr int kFewRows = 128;
size_t SpreadBytes(const PagedTokens& tokens, const Heads& heads) {
  const size_t row_heads = size_t(tokens.rows.max) * heads.num_heads;
  if (tokens.rows.max > kFewRows || row_heads > TileSums::kArrived) return 0;
  return TileSums::Bytes(tokens, heads, kKeys);
}

}  // namespace

void PlainAttention(Stream& stream, const AttentionProblem& p, void* scratch) {
  static_assert(kWarps * 32 >= kHeadDimMax);
  const dim3 grid(p.tokens.rows.max, p.heads.num_heads);
  ForElement(p.kv.bf16, [&](auto element) {
    ForElement(p.out_bf16, [&](auto out) {
      using T = decltype(element);
      using Out = decltype(out);
      if (scratch == nullptr) {
        return LaunchEarly(stream, grid, kWarps * 32, 0, AttentionKernel<T, Out>, p);
      }
      const int tiles_max = TileSums::TilesMax(p.tokens, kKeys);
      const int blocks = std::min(kSpreadMax, CeilDiv(tiles_max, kFewWarps));
      LaunchEarly(stream, dim3(grid.x, grid.y, blocks), kFewWarps * 32, 0,
                  SpreadAttentionKernel<T, Out>, p, TileSums::At(scratch, p.tokens, p.heads, kKeys),
                  tiles_max);
    });
  });
}

size_t AttentionBytes(const PagedTokens& tokens, const Heads& heads, bool kv_bf16) {
  constexpr int kEnough = 480;  // rows' key heads, some for every warpgroup of the largest cards
  if (!kv_bf16 || !IsTensorHead(heads)) return SpreadBytes(tokens, heads);
  const bool enough = tokens.rows.max * heads.num_kv_heads >= kEnough;
  return enough && TakesWarpgroupAttention(tokens, heads) ? 0 : SplitAttentionBytes(tokens, heads);
}

void Attention(Stream& stream, const PagedTokens& tokens, const Heads& heads, const float* q,
               const PagedKv& kv, float scale, int window, bool bf16, void* scratch,
               void* act_out) {
  const AttentionProblem problem = {tokens, heads, q, kv, scale, window, bf16, act_out};
  if (!kv.bf16 || !IsTensorHead(heads)) return PlainAttention(stream, problem, scratch);
  if (scratch != nullptr) return SplitAttention(stream, problem, scratch);
  TakesWarpgroupAttention(tokens, heads) ? WarpgroupAttention(stream, problem)
                                         : TensorAttention(stream, problem);
}

}  // namespace pregate::cuda

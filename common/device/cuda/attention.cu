// Causal attention over paged keys and values for all types: a block takes one head of one token,
// a warp each one tile of 32 keys at a time; the tiles are merged in order (attention.cuh).
#include "common/device/cuda/attention.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = 16;
constexpr int kKeys = 32;                    // of a tile: a lane each
constexpr int kLaneDims = kHeadDimMax / 32;  // dimension i belongs to lane i % 32

// One chain of sums over the dimensions in order, whichever way they are read.
template <class T>
__device__ float Dot(const float* q, const T* key, int d) {
  constexpr int kVector = 16 / sizeof(T);
  float sum = 0;
  if (d % kVector != 0) {
    for (int i = 0; i < d; ++i) sum = fmaf(q[i], ToFloat(key[i]), sum);
    return sum;
  }
#pragma unroll 8
  for (int i = 0; i < d; i += kVector) {
    const uint4 bits = *reinterpret_cast<const uint4*>(key + i);
    const T* part = reinterpret_cast<const T*>(&bits);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum = fmaf(q[i + j], ToFloat(part[j]), sum);
  }
  return sum;
}

// The sums of each warp's tile.
struct Tiles {
  float top[kWarps], sum[kWarps], out[kWarps][kHeadDimMax];
};

template <class T>
__device__ void AttendTile(const AttentionProblem& p, const KvBlocks<T>& blocks, int kv_head,
                           const float* q, int first, int num_keys, Tiles& tiles) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, d = p.heads.head_dim;
  const int key = first + lane;
  const bool seen = key < num_keys && key >= p.FirstKey(num_keys - 1);
  const float scale = __fmul_rn(p.scale, kLog2E);
  const float x = seen ? __fmul_rn(Dot(q, blocks.key(kv_head, key), d), scale) : -INFINITY;
  const float top = WarpReduce(ceilf(x), Largest());
  const float weight = seen ? exp2f(x - top) : 0;
  float sum = 0, acc[kLaneDims] = {};
  const int keys = min(kKeys, num_keys - first);
#pragma unroll 8
  for (int j = max(0, p.FirstKey(num_keys - 1) - first); j < keys; ++j) {
    const float w = __shfl_sync(~0u, weight, j);
    const T* value = blocks.value(kv_head, first + j);
    sum += w;
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) {
      if (lane + 32 * i < d) acc[i] = fmaf(w, ToFloat(value[lane + 32 * i]), acc[i]);
    }
  }
  if (lane == 0) tiles.top[warp] = top, tiles.sum[warp] = sum;
  for (int i = 0; i < kLaneDims; ++i) tiles.out[warp][lane + 32 * i] = acc[i];
}

template <class T, class Out>
__global__ void __launch_bounds__(kWarps * 32) AttentionKernel(AttentionProblem p) {
  __shared__ float q[kHeadDimMax];
  __shared__ Tiles tiles;
  const int warp = threadIdx.x / 32, channel = threadIdx.x;
  const int r = blockIdx.x, head = blockIdx.y, d = p.heads.head_dim;
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
    if (mine < num_keys) AttendTile(p, blocks, kv_head, q, mine, num_keys, tiles);
    __syncthreads();
    for (int w = 0; w < kWarps && first + w * kKeys < num_keys; ++w) {
      float keep, gain;
      top.Take(tiles.top[w], keep, gain);
      sum = Merged(sum, keep, tiles.sum[w], gain);
      out = Merged(out, keep, tiles.out[w][min(channel, kHeadDimMax - 1)], gain);
    }
    __syncthreads();
  }
  if (channel < d) static_cast<Out*>(p.out)[at + channel] = FromFloat<Out>(__fdiv_rn(out, sum));
}

}  // namespace

void PlainAttention(Stream& stream, const AttentionProblem& p) {
  static_assert(kWarps * 32 >= kHeadDimMax);
  const dim3 grid(p.tokens.rows.max, p.heads.num_heads);
  ForElement(p.kv.bf16, [&](auto element) {
    ForElement(p.out_bf16, [&](auto out) {
      Launch(stream, grid, kWarps * 32, 0, AttentionKernel<decltype(element), decltype(out)>, p);
    });
  });
}

size_t AttentionBytes(const PagedTokens& tokens, const Heads& heads) {
  constexpr int kEnough = 480;  // rows' key heads, some for every warpgroup of the largest cards
  const bool enough = tokens.rows.max * heads.num_kv_heads >= kEnough;
  return enough && TakesWarpgroupAttention(tokens, heads) ? 0 : SplitAttentionBytes(tokens, heads);
}

void Attention(Stream& stream, const PagedTokens& tokens, const Heads& heads, const float* q,
               const PagedKv& kv, float scale, int window, bool bf16, void* scratch,
               void* act_out) {
  const AttentionProblem problem = {tokens, heads, q, kv, scale, window, bf16, act_out};
  if (!kv.bf16 || !IsTensorHead(heads)) return PlainAttention(stream, problem);
  if (scratch != nullptr) return SplitAttention(stream, problem, scratch);
  TakesWarpgroupAttention(tokens, heads) ? WarpgroupAttention(stream, problem)
                                         : TensorAttention(stream, problem);
}

}  // namespace pregate::cuda

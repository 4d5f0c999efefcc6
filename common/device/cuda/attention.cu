// Causal attention over paged keys and values: a warp takes one head of one token and walks over
// the positions that it sees, from the first on, 32 keys at a time, with a running maximum. The
// order of all sums follows from the token's position alone.
#include "common/device/cuda/attention.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kKeys = 32;                    // of one round: a lane each
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

template <class T, class Out>
__global__ void AttentionKernel(AttentionProblem p) {
  __shared__ float shared_q[kWarps][kHeadDimMax];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int r = blockIdx.x, head = blockIdx.y * kWarps + warp, d = p.heads.head_dim;
  if (r >= *p.tokens.rows.num || head >= p.heads.num_heads) return;
  const int kv_head = head / (p.heads.num_heads / p.heads.num_kv_heads);
  const int num_keys = p.tokens.positions[r] + 1;
  const KvBlocks<T> blocks(p.kv, p.heads, p.tokens, r);
  const int64_t at = (int64_t{r} * p.heads.num_heads + head) * d;
  float* q = shared_q[warp];
  for (int i = lane; i < d; i += 32) q[i] = p.q[at + i];
  __syncwarp();

  float top = -INFINITY, sum = 0, acc[kLaneDims] = {};
  for (int first = p.FirstKey(num_keys - 1); first < num_keys; first += kKeys) {
    const int keys = min(kKeys, num_keys - first);
    float x = -INFINITY;
    if (lane < keys) x = __fmul_rn(Dot(q, blocks.key(kv_head, first + lane), d), p.scale);
    float tile_top = x;
    for (int offset = 16; offset > 0; offset /= 2) {
      tile_top = fmaxf(tile_top, __shfl_xor_sync(~0u, tile_top, offset));
    }
    const float new_top = fmaxf(top, tile_top), keep = expf(top - new_top);
    const float weight = lane < keys ? expf(x - new_top) : 0;
    top = new_top;
    sum *= keep;
    for (float& a : acc) a *= keep;
#pragma unroll 4
    for (int j = 0; j < keys; ++j) {
      const float w = __shfl_sync(~0u, weight, j);
      const T* value = blocks.value(kv_head, first + j);
      sum += w;
#pragma unroll
      for (int i = 0; i < kLaneDims; ++i) {
        if (lane + 32 * i < d) acc[i] = fmaf(w, ToFloat(value[lane + 32 * i]), acc[i]);
      }
    }
  }
  Out* out = static_cast<Out*>(p.out) + at;
#pragma unroll
  for (int i = 0; i < kLaneDims; ++i) {
    if (lane + 32 * i < d) out[lane + 32 * i] = FromFloat<Out>(__fdiv_rn(acc[i], sum));
  }
}

}  // namespace

void PlainAttention(Stream& stream, const AttentionProblem& p) {
  const dim3 grid(p.tokens.rows.max, CeilDiv(p.heads.num_heads, kWarps));
  ForElement(p.kv.bf16, [&](auto element) {
    ForElement(p.out_bf16, [&](auto out) {
      Launch(stream, grid, kWarps * 32, 0, AttentionKernel<decltype(element), decltype(out)>, p);
    });
  });
}

void Attention(Stream& stream, const PagedTokens& tokens, const Heads& heads, const float* q,
               const PagedKv& kv, float scale, int window, bool bf16, void* act_out) {
  const AttentionProblem problem = {tokens, heads, q, kv, scale, window, bf16, act_out};
  TensorAttentionTakes(problem) ? TensorAttention(stream, problem)
                                : PlainAttention(stream, problem);
}

}  // namespace pregate::cuda

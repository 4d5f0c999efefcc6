// Rotary embedding (half-split) of q and k, and the store of k and v into their paged blocks.
#include "common/device/cuda/paged_kv.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void RotateAndStoreKernel(PagedTokens tokens, Heads heads, const float* inv_freq,
                                     const float* qkv, PagedKv kv, float* q_out) {
  const int r = blockIdx.x;
  if (r >= *tokens.rows.num) return;
  const int d = heads.head_dim, half = d / 2, position = tokens.positions[r];
  const int rotated = heads.num_heads + heads.num_kv_heads;
  const float* in = qkv + int64_t{r} * (rotated + heads.num_kv_heads) * d;
  const KvBlocks<T> blocks(kv, heads, tokens, r);
  for (int i = threadIdx.x; i < rotated * half; i += kThreads) {
    const int head = i / half, c = i % half;
    float sine, cosine;
    sincosf(__fmul_rn(static_cast<float>(position), inv_freq[c]), &sine, &cosine);
    const float a = in[head * d + c], b = in[head * d + c + half];
    const float x = a * cosine - b * sine, y = b * cosine + a * sine;
    if (head < heads.num_heads) {
      float* q = q_out + (int64_t{r} * heads.num_heads + head) * d;
      q[c] = x;
      q[c + half] = y;
    } else {
      T* key = blocks.key(head - heads.num_heads, position);
      key[c] = FromFloat<T>(x);
      key[c + half] = FromFloat<T>(y);
    }
  }
  const float* values = in + rotated * d;
  for (int i = threadIdx.x; i < heads.num_kv_heads * d; i += kThreads) {
    blocks.value(i / d, position)[i % d] = FromFloat<T>(values[i]);
  }
}

}  // namespace

void RotateAndStore(Stream& stream, const PagedTokens& tokens, const Heads& heads,
                    const float* inv_freq, const float* qkv, const PagedKv& kv, float* q_out) {
  ForElement(kv.bf16, [&](auto element) {
    Launch(stream, tokens.rows.max, kThreads, 0, RotateAndStoreKernel<decltype(element)>, tokens,
           heads, inv_freq, qkv, kv, q_out);
  });
}

}  // namespace pregate::cuda

// Rotary embedding (half-split) of q and k, and the store of k and v into their paged blocks. One
// block a row and head.
#include "common/device/cuda/paged_kv.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 64;

template <class T>
__device__ void Rotate(const float* in, const float* inv_freq, int position, int half, T* out) {
  for (int i = threadIdx.x; i < half; i += kThreads) {
    float sine, cosine;
    sincosf(__fmul_rn(static_cast<float>(position), inv_freq[i]), &sine, &cosine);
    const float a = in[i], b = in[i + half];
    out[i] = FromFloat<T>(a * cosine - b * sine);
    out[i + half] = FromFloat<T>(b * cosine + a * sine);
  }
}

template <class T>
__global__ void RotateAndStoreKernel(PagedTokens tokens, Heads heads, const float* inv_freq,
                                     const float* qkv, PagedKv kv, float* q_out) {
  const int r = blockIdx.x, head = blockIdx.y;
  if (r >= *tokens.rows.num) return;
  const int d = heads.head_dim, position = tokens.positions[r];
  const float* in = qkv + (int64_t{r} * gridDim.y + head) * d;
  const int kv_head = head - heads.num_heads;
  if (kv_head < 0) {
    return Rotate(in, inv_freq, position, d / 2, q_out + (int64_t{r} * heads.num_heads + head) * d);
  }
  const KvBlocks<T> blocks(kv, heads, tokens, r);
  if (kv_head < heads.num_kv_heads) {
    return Rotate(in, inv_freq, position, d / 2, blocks.key(kv_head, position));
  }
  T* value = blocks.value(kv_head - heads.num_kv_heads, position);
  for (int i = threadIdx.x; i < d; i += kThreads) value[i] = FromFloat<T>(in[i]);
}

}  // namespace

void RotateAndStore(Stream& stream, const PagedTokens& tokens, const Heads& heads,
                    const float* inv_freq, const float* qkv, const PagedKv& kv, float* q_out) {
  const dim3 grid(tokens.rows.max, heads.num_heads + 2 * heads.num_kv_heads);
  ForElement(kv.bf16, [&](auto element) {
    Launch(stream, grid, kThreads, 0, RotateAndStoreKernel<decltype(element)>, tokens, heads,
           inv_freq, qkv, kv, q_out);
  });
}

}  // namespace pregate::cuda

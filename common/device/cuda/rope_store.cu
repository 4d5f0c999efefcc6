// Norms of the heads of q and k, rotary embedding (half-split), and the store of k and v into their
// paged blocks. One block a row and head.
#include "common/device/cuda/paged_kv.cuh"
#include "common/device/cuda/rotary.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 64;

// The block's sum of x^2, in an order that follows from n alone. All threads get it.
__device__ float SumOfSquares(const float* x, int n) {
  __shared__ float parts[kThreads];
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += kThreads) sum = fmaf(x[i], x[i], sum);
  parts[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
  }
  __syncthreads();
  return parts[0];
}

// `head` becomes the normed head; without weights it is copied.
__device__ void NormHead(const float* in, int head_dim, const float* weights, float eps,
                         float* head) {
  const float inverse =
      weights == nullptr ? 1.0f : 1.0f / sqrtf(SumOfSquares(in, head_dim) / head_dim + eps);
  for (int i = threadIdx.x; i < head_dim; i += kThreads) {
    head[i] = weights == nullptr ? in[i] : __fmul_rn(__fmul_rn(in[i], inverse), weights[i]);
  }
  __syncthreads();
}

template <class T>
__device__ void Rotate(const float* head, int head_dim, const Rotation& rotation, int position,
                       T* out) {
  const int half = rotation.dims / 2;
  for (int i = threadIdx.x; i < half; i += kThreads) {
    const Turn turn(position, rotation.inv_freq[i], rotation.scale);
    const float a = head[i], b = head[i + half];
    out[i] = FromFloat<T>(turn.First(a, b));
    out[i + half] = FromFloat<T>(turn.Second(a, b));
  }
  for (int i = rotation.dims + threadIdx.x; i < head_dim; i += kThreads) {
    out[i] = FromFloat<T>(head[i]);
  }
}

template <class T>
__global__ void RotateAndStoreKernel(PagedTokens tokens, Heads heads, Rotation rotation,
                                     const float* qkv, PagedKv kv, float* q_out) {
  __shared__ float normed[kHeadDimMax];
  const int r = blockIdx.x, head = blockIdx.y;
  if (r >= *tokens.rows.num) return;
  const int d = heads.head_dim, position = tokens.positions[r];
  const float* in = qkv + (int64_t{r} * gridDim.y + head) * d;
  const int kv_head = head - heads.num_heads;
  if (kv_head < 0) {
    NormHead(in, d, rotation.q_norm, rotation.norm_eps, normed);
    return Rotate(normed, d, rotation, position, q_out + (int64_t{r} * heads.num_heads + head) * d);
  }
  const KvBlocks<T> blocks(kv, heads, tokens, r);
  if (kv_head < heads.num_kv_heads) {
    NormHead(in, d, rotation.k_norm, rotation.norm_eps, normed);
    return Rotate(normed, d, rotation, position, blocks.key(kv_head, position));
  }
  T* value = blocks.value(kv_head - heads.num_kv_heads, position);
  for (int i = threadIdx.x; i < d; i += kThreads) value[i] = FromFloat<T>(in[i]);
}

}  // namespace

void RotateAndStore(Stream& stream, const PagedTokens& tokens, const Heads& heads,
                    const Rotation& rotation, const float* qkv, const PagedKv& kv, float* q_out) {
  const dim3 grid(tokens.rows.max, heads.num_heads + 2 * heads.num_kv_heads);
  ForElement(kv.bf16, [&](auto element) {
    Launch(stream, grid, kThreads, 0, RotateAndStoreKernel<decltype(element)>, tokens, heads,
           rotation, qkv, kv, q_out);
  });
}

}  // namespace pregate::cuda

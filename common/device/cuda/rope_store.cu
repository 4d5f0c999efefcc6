// Norms of the heads of q and k, rotary embedding (half-split), and the store of k and v into their
// paged blocks. One block a row and some heads: with many rows several, so that an angle is taken once
// for all of them. Whole heads of many rows have a kernel of their own, bound by memory.
#include "common/device/cuda/paged_kv.cuh"
#include "common/device/cuda/rotary.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 64;
constexpr int kManyRows = 64;                       // of a step
constexpr int kTurns = kHeadDimMax / 2 / kThreads;  // of a thread

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

// `head` becomes the normed head.
__device__ void NormHead(const float* in, int head_dim, const float* weights, float eps,
                         float* head) {
  __syncthreads();  // the head before has been read
  const float inverse = 1.0f / sqrtf(SumOfSquares(in, head_dim) / head_dim + eps);
  for (int i = threadIdx.x; i < head_dim; i += kThreads) {
    head[i] = __fmul_rn(__fmul_rn(in[i], inverse), weights[i]);
  }
  __syncthreads();
}

// turns[n] is of channel threadIdx.x + n kThreads.
template <class T>
__device__ void Rotate(const float* head, int head_dim, int dims, const Turn (&turns)[kTurns],
                       T* out) {
  const int half = dims / 2;
#pragma unroll
  for (int n = 0; n < kTurns; ++n) {
    const int i = threadIdx.x + n * kThreads;
    if (i >= half) break;
    const float a = head[i], b = head[i + half];
    out[i] = FromFloat<T>(turns[n].First(a, b));
    out[i + half] = FromFloat<T>(turns[n].Second(a, b));
  }
  for (int i = dims + threadIdx.x; i < head_dim; i += kThreads) out[i] = FromFloat<T>(head[i]);
}

template <class T>
__global__ void RotateAndStoreKernel(PagedTokens tokens, Heads heads, Rotation rotation,
                                     int heads_each, const float* qkv, PagedKv kv, float* q_out) {
  __shared__ float normed[kHeadDimMax];
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *tokens.rows.num) return;
  const int d = heads.head_dim, position = tokens.positions[r];
  const int all_heads = heads.num_heads + 2 * heads.num_kv_heads;
  const int begin = blockIdx.y * heads_each, end = min(begin + heads_each, all_heads);
  const KvBlocks<T> blocks(kv, heads, tokens, r);
  Turn turns[kTurns];
  if (begin < heads.num_heads + heads.num_kv_heads) {
#pragma unroll
    for (int n = 0; n < kTurns; ++n) {
      const int i = threadIdx.x + n * kThreads;
      if (i < rotation.dims / 2) turns[n] = Turn(position, rotation.inv_freq[i], rotation.scale);
    }
  }
#pragma unroll 4
  for (int head = begin; head < end; ++head) {
    const float* in = qkv + (int64_t{r} * all_heads + head) * d;
    const int kv_head = head - heads.num_heads;
    if (kv_head >= heads.num_kv_heads) {
      T* value = blocks.value(kv_head - heads.num_kv_heads, position);
      for (int i = threadIdx.x; i < d; i += kThreads) value[i] = FromFloat<T>(in[i]);
      continue;
    }
    const float* weights = kv_head < 0 ? rotation.q_norm : rotation.k_norm;
    if (weights != nullptr) NormHead(in, d, weights, rotation.norm_eps, normed);
    const float* head_in = weights != nullptr ? normed : in;
    if (kv_head < 0) {
      float* q = q_out + (int64_t{r} * heads.num_heads + head) * d;
      Rotate(head_in, d, rotation.dims, turns, q);
    } else {
      Rotate(head_in, d, rotation.dims, turns, blocks.key(kv_head, position));
    }
  }
}

// A warp has a row and some heads, whose loads go out together. A lane has kVector channels of the first
// half and their partners.
constexpr int kWarpHeads = 8, kBlockWarps = 4;
template <class T, int kVector>
struct alignas(sizeof(T) * kVector) Channels {
  T v[kVector];
};
template <class T, int kVector>
__device__ void StoreChannels(const Channels<float, kVector>& channels, T* to) {
  Channels<T, kVector> rounded;
#pragma unroll
  for (int i = 0; i < kVector; ++i) rounded.v[i] = FromFloat<T>(channels.v[i]);
  *reinterpret_cast<Channels<T, kVector>*>(to) = rounded;
}

template <class T, int kVector>
__global__ void __launch_bounds__(kBlockWarps * 32)
    RotateAndStoreWholeKernel(PagedTokens tokens, Heads heads, Rotation rotation, const float* qkv,
                              PagedKv kv, float* q_out) {
  constexpr int kHalf = 32 * kVector, kDim = 2 * kHalf;
  AwaitKernelsBefore();
  const int r = blockIdx.x, channel = threadIdx.x % 32 * kVector;
  if (r >= *tokens.rows.num) return;
  const int kv_begin = heads.num_heads, all_heads = kv_begin + 2 * heads.num_kv_heads;
  const int begin = (blockIdx.y * kBlockWarps + threadIdx.x / 32) * kWarpHeads;
  using Floats = Channels<float, kVector>;
  Floats in[kWarpHeads][2];
#pragma unroll
  for (int i = 0; i < kWarpHeads; ++i) {
    if (begin + i >= all_heads) break;
    const float* from = qkv + (int64_t{r} * all_heads + begin + i) * kDim + channel;
    in[i][0] = *reinterpret_cast<const Floats*>(from);
    in[i][1] = *reinterpret_cast<const Floats*>(from + kHalf);
  }
  const int position = tokens.positions[r];
  const KvBlocks<T> blocks(kv, heads, tokens, r);
  Turn turns[kVector];
#pragma unroll
  for (int v = 0; v < kVector && rotation.dims > 0; ++v) {
    turns[v] = Turn(position, rotation.inv_freq[channel + v], rotation.scale);
  }
#pragma unroll
  for (int i = 0; i < kWarpHeads; ++i) {
    const int head = begin + i, kv_head = head - kv_begin;
    if (head >= all_heads) break;
    if (kv_head >= heads.num_kv_heads) {
      T* value = blocks.value(kv_head - heads.num_kv_heads, position) + channel;
      StoreChannels(in[i][0], value);
      StoreChannels(in[i][1], value + kHalf);
      continue;
    }
    Floats first = in[i][0], second = in[i][1];
#pragma unroll
    for (int v = 0; v < kVector && rotation.dims > 0; ++v) {
      first.v[v] = turns[v].First(in[i][0].v[v], in[i][1].v[v]);
      second.v[v] = turns[v].Second(in[i][0].v[v], in[i][1].v[v]);
    }
    if (kv_head < 0) {
      float* q = q_out + (int64_t{r} * heads.num_heads + head) * kDim + channel;
      StoreChannels(first, q);
      StoreChannels(second, q + kHalf);
    } else {
      T* key = blocks.key(kv_head, position) + channel;
      StoreChannels(first, key);
      StoreChannels(second, key + kHalf);
    }
  }
}

}  // namespace

void RotateAndStore(Stream& stream, const PagedTokens& tokens, const Heads& heads,
                    const Rotation& rotation, const float* qkv, const PagedKv& kv, float* q_out) {
  const int all_heads = heads.num_heads + 2 * heads.num_kv_heads;
  const bool many = tokens.rows.max >= kManyRows;
  const bool whole = (heads.head_dim == 64 || heads.head_dim == 128) &&
                     (rotation.dims == 0 || rotation.dims == heads.head_dim) &&
                     rotation.q_norm == nullptr && rotation.k_norm == nullptr;
  ForElement(kv.bf16, [&](auto element) {
    using T = decltype(element);
    if (many && whole) {
      LaunchEarly(
          stream, dim3(tokens.rows.max, CeilDiv(all_heads, kWarpHeads * kBlockWarps)),
          kBlockWarps * 32, 0,
          heads.head_dim == 64 ? RotateAndStoreWholeKernel<T, 1> : RotateAndStoreWholeKernel<T, 2>,
          tokens, heads, rotation, qkv, kv, q_out);
      return;
    }
    const int heads_each = many ? 8 : 1;
    LaunchEarly(stream, dim3(tokens.rows.max, CeilDiv(all_heads, heads_each)), kThreads, 0,
                RotateAndStoreKernel<T>, tokens, heads, rotation, heads_each, qkv, kv, q_out);
  });
}

}  // namespace pregate::cuda

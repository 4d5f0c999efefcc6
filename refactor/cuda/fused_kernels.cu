#include <cmath>

#include "refactor/cuda/fused_kernels.h"

namespace pregate::fused {
namespace {

constexpr int kThreads = 256;
constexpr int kLossThreads = 512;
constexpr int kVector = 8;  // values of a 16-byte load

struct alignas(16) Eight {
  __nv_bfloat162 of[4];
};

__device__ void ToFloats(const Eight& in, float (&out)[kVector]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = __bfloat1622float2(in.of[i]);
    out[2 * i] = two.x;
    out[2 * i + 1] = two.y;
  }
}
__device__ Eight ToEight(const float (&in)[kVector]) {
  Eight out;
#pragma unroll
  for (int i = 0; i < 4; ++i) out.of[i] = __floats2bfloat162_rn(in[2 * i], in[2 * i + 1]);
  return out;
}

int Blocks(int64_t threads) { return static_cast<int>((threads + kThreads - 1) / kThreads); }

// A thread has two neighbours of either half, or of the rest two pairs.
__global__ void RopeKernel(RopeShape shape, const __nv_bfloat162* x, const float2* cos,
                           const float2* sin, __nv_bfloat162* out) {
  const int quads = shape.head_dim / 4, half = shape.turned / 4;
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= shape.rows * shape.heads * quads) return;
  const int quad = static_cast<int>(i % quads);
  const int64_t head = i / quads, at = head * shape.head_dim / 2;
  if (quad >= half) {
    out[at + 2 * quad] = x[at + 2 * quad];
    out[at + 2 * quad + 1] = x[at + 2 * quad + 1];
    return;
  }
  const int position = shape.first + static_cast<int>(head / shape.heads % shape.tokens);
  const float2 c = cos[position * half + quad], s = sin[position * half + quad];
  const float sign = shape.back ? -1.0F : 1.0F;
  const float2 a = __bfloat1622float2(x[at + quad]), b = __bfloat1622float2(x[at + half + quad]);
  out[at + quad] =
      __floats2bfloat162_rn(a.x * c.x - sign * b.x * s.x, a.y * c.y - sign * b.y * s.y);
  out[at + half + quad] =
      __floats2bfloat162_rn(b.x * c.x + sign * a.x * s.x, b.y * c.y + sign * a.y * s.y);
}

// Of eight neurons of a row.
struct GatedAt {
  int64_t row;
  int column;
};
__device__ bool Find(const GatedShape& shape, GatedAt& at) {
  const int vectors = shape.width / kVector;
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  at = {i / vectors, static_cast<int>(i % vectors) * kVector};
  return at.row < shape.rows;
}
__device__ void GainsAt(const GatedShape& shape, const GatedAt& at, const float* gains,
                        const int64_t* routes, float (&out)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    out[i] = routes == nullptr ? 1.0F : gains[routes[at.row] * shape.width + at.column + i];
  }
}

__global__ void GatedKernel(GatedShape shape, const __nv_bfloat16* gate, const __nv_bfloat16* up,
                            const float* gains, const int64_t* routes, __nv_bfloat16* out) {
  GatedAt at;
  if (!Find(shape, at)) return;
  const int64_t i = at.row * shape.width + at.column;
  float g[kVector], u[kVector], gain[kVector];
  ToFloats(*reinterpret_cast<const Eight*>(gate + i), g);
  ToFloats(*reinterpret_cast<const Eight*>(up + i), u);
  GainsAt(shape, at, gains, routes, gain);
#pragma unroll
  for (int k = 0; k < kVector; ++k) g[k] = g[k] / (1 + __expf(-g[k])) * u[k] * gain[k];
  *reinterpret_cast<Eight*>(out + i) = ToEight(g);
}

__global__ void GatedBackKernel(GatedShape shape, const __nv_bfloat16* grad,
                                const __nv_bfloat16* gate, const __nv_bfloat16* up,
                                const float* gains, const int64_t* routes, __nv_bfloat16* grad_gate,
                                __nv_bfloat16* grad_up) {
  GatedAt at;
  if (!Find(shape, at)) return;
  const int64_t i = at.row * shape.width + at.column;
  float d[kVector], g[kVector], u[kVector], gain[kVector];
  ToFloats(*reinterpret_cast<const Eight*>(grad + i), d);
  ToFloats(*reinterpret_cast<const Eight*>(gate + i), g);
  ToFloats(*reinterpret_cast<const Eight*>(up + i), u);
  GainsAt(shape, at, gains, routes, gain);
#pragma unroll
  for (int k = 0; k < kVector; ++k) {
    const float sigmoid = 1 / (1 + __expf(-g[k])), by_gain = d[k] * gain[k];
    d[k] = by_gain * u[k] * sigmoid * (1 + g[k] * (1 - sigmoid));
    u[k] = by_gain * g[k] * sigmoid;
  }
  *reinterpret_cast<Eight*>(grad_gate + i) = ToEight(d);
  *reinterpret_cast<Eight*>(grad_up + i) = ToEight(u);
}

// Running sums of a row: sum exp(z - top) of both, and sum exp(parent - top) (parent - logits).
struct RowSums {
  float top = -INFINITY, sum = 0, parent_top = -INFINITY, parent_sum = 0, cross = 0;

  __device__ void Add(const RowSums& other) {
    const float t = fmaxf(top, other.top);
    if (t > -INFINITY) sum = sum * __expf(top - t) + other.sum * __expf(other.top - t);
    top = t;
    const float p = fmaxf(parent_top, other.parent_top);
    if (p > -INFINITY) {
      const float mine = __expf(parent_top - p), theirs = __expf(other.parent_top - p);
      parent_sum = parent_sum * mine + other.parent_sum * theirs;
      cross = cross * mine + other.cross * theirs;
    }
    parent_top = p;
  }
};

__device__ RowSums Shuffled(const RowSums& sums, int distance) {
  RowSums out;
  out.top = __shfl_xor_sync(~0U, sums.top, distance);
  out.sum = __shfl_xor_sync(~0U, sums.sum, distance);
  out.parent_top = __shfl_xor_sync(~0U, sums.parent_top, distance);
  out.parent_sum = __shfl_xor_sync(~0U, sums.parent_sum, distance);
  out.cross = __shfl_xor_sync(~0U, sums.cross, distance);
  return out;
}

template <int N>
__device__ float TopOf(const float (&values)[N]) {
  float top = values[0];
#pragma unroll
  for (int i = 1; i < N; ++i) top = fmaxf(top, values[i]);
  return top;
}

__global__ void __launch_bounds__(kLossThreads)
    LossesKernel(LossShape shape, const __nv_bfloat16* logits, const __nv_bfloat16* parent,
                 const int64_t* next, float* divergence, float* nll, float* sums) {
  __shared__ RowSums of_warp[kLossThreads / 32];
  const int64_t row = blockIdx.x, begin = row * shape.vocab;
  RowSums mine;
  for (int i = threadIdx.x * kVector; i < shape.vocab; i += kLossThreads * kVector) {
    float z[kVector];
    ToFloats(*reinterpret_cast<const Eight*>(logits + begin + i), z);
    RowSums of_eight;
    of_eight.top = TopOf(z);
#pragma unroll
    for (int k = 0; k < kVector; ++k) of_eight.sum += __expf(z[k] - of_eight.top);
    if (parent != nullptr) {
      float y[kVector];
      ToFloats(*reinterpret_cast<const Eight*>(parent + begin + i), y);
      of_eight.parent_top = TopOf(y);
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        const float e = __expf(y[k] - of_eight.parent_top);
        of_eight.parent_sum += e;
        of_eight.cross += e * (y[k] - z[k]);
      }
    }
    mine.Add(of_eight);
  }
  for (int distance = 16; distance > 0; distance /= 2) mine.Add(Shuffled(mine, distance));
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kLossThreads / 32; ++w) mine.Add(of_warp[w]);
  const float log_sum = mine.top + logf(mine.sum);
  const float parent_log_sum = parent == nullptr ? 0 : mine.parent_top + logf(mine.parent_sum);
  sums[2 * row] = log_sum;
  sums[2 * row + 1] = parent_log_sum;
  divergence[row] = parent == nullptr ? 0 : mine.cross / mine.parent_sum - parent_log_sum + log_sum;
  nll[row] = log_sum - __bfloat162float(logits[begin + next[row]]);
}

__global__ void __launch_bounds__(kLossThreads)
    LossesBackKernel(LossShape shape, const __nv_bfloat16* logits, const __nv_bfloat16* parent,
                     const int64_t* next, const float* sums, const float* grad_divergence,
                     const float* grad_nll, __nv_bfloat16* grad) {
  const int64_t row = blockIdx.x, begin = row * shape.vocab;
  const float log_sum = sums[2 * row], parent_log_sum = sums[2 * row + 1];
  const float gd = parent == nullptr ? 0 : grad_divergence[row], gn = grad_nll[row];
  const auto target = static_cast<int>(next[row]);
  for (int i = threadIdx.x * kVector; i < shape.vocab; i += kLossThreads * kVector) {
    float z[kVector];
    ToFloats(*reinterpret_cast<const Eight*>(logits + begin + i), z);
#pragma unroll
    for (int k = 0; k < kVector; ++k)
      z[k] = (gd + gn) * __expf(z[k] - log_sum) - (i + k == target ? gn : 0);
    if (parent != nullptr) {
      float y[kVector];
      ToFloats(*reinterpret_cast<const Eight*>(parent + begin + i), y);
#pragma unroll
      for (int k = 0; k < kVector; ++k) z[k] -= gd * __expf(y[k] - parent_log_sum);
    }
    *reinterpret_cast<Eight*>(grad + begin + i) = ToEight(z);
  }
}

__global__ void StoredKernel(StoredShape shape, float4* weight, const float4* dense,
                             const float* scale, __nv_bfloat162* out) {
  const int quads = shape.columns / 4;
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= shape.rows * quads) return;
  const float step = scale[i / quads], inverse = step > 0 ? 1 / step : 0;
  const float middle = shape.middle, reach = step * (middle + 0.5F);
  const float4 w = weight[i], d = dense[i];
  float tuned[4] = {w.x, w.y, w.z, w.w}, stored[4];
  const float from[4] = {d.x, d.y, d.z, d.w};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float change = fmaxf(fminf(tuned[k] - from[k], reach), -reach);
    const float code = fminf(fmaxf(floorf(change * inverse + (middle + 0.5F)), 0.0F), 2 * middle);
    tuned[k] = from[k] + change;
    stored[k] = from[k] + (code - middle) * step;
  }
  weight[i] = {tuned[0], tuned[1], tuned[2], tuned[3]};
  out[2 * i] = __floats2bfloat162_rn(stored[0], stored[1]);
  out[2 * i + 1] = __floats2bfloat162_rn(stored[2], stored[3]);
}

}  // namespace

cudaError_t Rope(const RopeShape& shape, const __nv_bfloat16* x, const float* cos, const float* sin,
                 __nv_bfloat16* out, cudaStream_t stream) {
  const int64_t threads = shape.rows * shape.heads * (shape.head_dim / 4);
  RopeKernel<<<Blocks(threads), kThreads, 0, stream>>>(
      shape, reinterpret_cast<const __nv_bfloat162*>(x), reinterpret_cast<const float2*>(cos),
      reinterpret_cast<const float2*>(sin), reinterpret_cast<__nv_bfloat162*>(out));
  return cudaGetLastError();
}

cudaError_t Gated(const GatedShape& shape, const __nv_bfloat16* gate, const __nv_bfloat16* up,
                  const float* gains, const int64_t* routes, __nv_bfloat16* out,
                  cudaStream_t stream) {
  GatedKernel<<<Blocks(shape.rows * (shape.width / kVector)), kThreads, 0, stream>>>(
      shape, gate, up, gains, routes, out);
  return cudaGetLastError();
}

cudaError_t GatedBack(const GatedShape& shape, const __nv_bfloat16* grad, const __nv_bfloat16* gate,
                      const __nv_bfloat16* up, const float* gains, const int64_t* routes,
                      __nv_bfloat16* grad_gate, __nv_bfloat16* grad_up, cudaStream_t stream) {
  GatedBackKernel<<<Blocks(shape.rows * (shape.width / kVector)), kThreads, 0, stream>>>(
      shape, grad, gate, up, gains, routes, grad_gate, grad_up);
  return cudaGetLastError();
}

cudaError_t Losses(const LossShape& shape, const __nv_bfloat16* logits, const __nv_bfloat16* parent,
                   const int64_t* next, float* divergence, float* nll, float* sums,
                   cudaStream_t stream) {
  LossesKernel<<<static_cast<int>(shape.rows), kLossThreads, 0, stream>>>(
      shape, logits, parent, next, divergence, nll, sums);
  return cudaGetLastError();
}

cudaError_t LossesBack(const LossShape& shape, const __nv_bfloat16* logits,
                       const __nv_bfloat16* parent, const int64_t* next, const float* sums,
                       const float* grad_divergence, const float* grad_nll, __nv_bfloat16* grad,
                       cudaStream_t stream) {
  LossesBackKernel<<<static_cast<int>(shape.rows), kLossThreads, 0, stream>>>(
      shape, logits, parent, next, sums, grad_divergence, grad_nll, grad);
  return cudaGetLastError();
}

cudaError_t Stored(const StoredShape& shape, float* weight, const float* dense, const float* scale,
                   __nv_bfloat16* out, cudaStream_t stream) {
  StoredKernel<<<Blocks(shape.rows * (shape.columns / 4)), kThreads, 0, stream>>>(
      shape, reinterpret_cast<float4*>(weight), reinterpret_cast<const float4*>(dense), scale,
      reinterpret_cast<__nv_bfloat162*>(out));
  return cudaGetLastError();
}

}  // namespace pregate::fused

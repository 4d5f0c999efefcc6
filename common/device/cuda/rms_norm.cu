// act_out = round(x / sqrt(mean(x^2) + eps) * weight), one block a row.
#include "common/device/cuda/rms_norm.cuh"

namespace pregate::cuda {
namespace {

__device__ void StoreFour(float* to, const float4& v) { *reinterpret_cast<float4*>(to) = v; }
__device__ void StoreFour(Bf16* to, const float4& v) {
  const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y), high = __floats2bfloat162_rn(v.z, v.w);
  *reinterpret_cast<uint2*>(to) = {*reinterpret_cast<const uint32_t*>(&low),
                                   *reinterpret_cast<const uint32_t*>(&high)};
}

// kLoads > 0: width is a multiple of 4 and at most kLoads kNormStep; the row is read once, all of it at
// the same time.
template <int kLoads, class T>
__global__ void __launch_bounds__(kNormThreads)
    RmsNormKernel(Rows rows, int width, const float* x, const float* weight, float eps, T* out) {
  __shared__ float warp_sums[kNormThreads / 32];
  const int r = blockIdx.x;
  if (r >= *rows.num) return;
  x += int64_t{r} * width;
  out += int64_t{r} * width;
  const int mine = 4 * threadIdx.x;
  float4 held[kLoads > 0 ? kLoads : 1], weights[kLoads > 0 ? kLoads : 1];
  float sum = 0;
  if constexpr (kLoads > 0) {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int c = mine + j * kNormStep;
      if (c >= width) break;
      held[j] = *reinterpret_cast<const float4*>(x + c);
      weights[j] = *reinterpret_cast<const float4*>(weight + c);
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      if (mine + j * kNormStep < width) sum = AddSquares(sum, held[j]);
    }
  } else {
    const bool aligned = width % 4 == 0;
    for (int c = mine; c < width; c += kNormStep) {
      sum = AddSquares(sum, FourChannels(x, c, width, aligned));
    }
  }
  sum = WarpReduce(sum, Sum());
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  const float scale = NormScale(warp_sums, width, eps);
  if constexpr (kLoads > 0) {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int c = mine + j * kNormStep;
      if (c >= width) break;
      StoreFour(out + c, {Normed(held[j].x, scale, weights[j].x),
                          Normed(held[j].y, scale, weights[j].y),
                          Normed(held[j].z, scale, weights[j].z),
                          Normed(held[j].w, scale, weights[j].w)});
    }
  } else {
    for (int c = threadIdx.x; c < width; c += kNormThreads) {
      out[c] = FromFloat<T>(Normed(x[c], scale, weight[c]));
    }
  }
}

}  // namespace

void RmsNorm(Stream& stream, Rows rows, int width, const float* x, const float* weight, float eps,
             bool bf16, void* act_out) {
  ForElement(bf16, [&](auto element) {
    using T = decltype(element);
    const int loads = width % 4 == 0 ? CeilDiv(width, kNormStep) : 0;
    const auto kernel = loads == 1   ? RmsNormKernel<1, T>
                        : loads == 2 ? RmsNormKernel<2, T>
                        : loads == 4 ? RmsNormKernel<4, T>
                        : loads == 5 ? RmsNormKernel<5, T>
                                     : RmsNormKernel<0, T>;
    Launch(stream, rows.max, kNormThreads, 0, kernel, rows, width, x, weight, eps,
           static_cast<T*>(act_out));
  });
}

}  // namespace pregate::cuda

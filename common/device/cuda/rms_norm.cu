// act_out = round(x / sqrt(mean(x^2) + eps) * weight), one block a row.
#include "common/device/cuda/rms_norm.cuh"

namespace pregate::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kNormThreads)
    RmsNormKernel(Rows rows, int width, const float* x, const float* weight, float eps, T* out) {
  __shared__ float warp_sums[kNormThreads / 32];
  const int r = blockIdx.x;
  if (r >= *rows.num) return;
  x += int64_t{r} * width;
  out += int64_t{r} * width;
  const bool aligned = width % 4 == 0;
  float sum = 0;
  for (int c = 4 * threadIdx.x; c < width; c += kNormStep) {
    sum = AddSquares(sum, FourChannels(x, c, width, aligned));
  }
  sum = WarpReduce(sum, Sum());
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  const float scale = NormScale(warp_sums, width, eps);
  for (int c = threadIdx.x; c < width; c += kNormThreads) {
    out[c] = FromFloat<T>(Normed(x[c], scale, weight[c]));
  }
}

}  // namespace

void RmsNorm(Stream& stream, Rows rows, int width, const float* x, const float* weight, float eps,
             bool bf16, void* act_out) {
  ForElement(bf16, [&](auto element) {
    using T = decltype(element);
    Launch(stream, rows.max, kNormThreads, 0, RmsNormKernel<T>, rows, width, x, weight, eps,
           static_cast<T*>(act_out));
  });
}

}  // namespace pregate::cuda

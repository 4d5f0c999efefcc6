// act_out = round(x / sqrt(mean(x^2) + eps) * weight), one block a row.
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 1024;

template <class T>
__global__ void RmsNormKernel(Rows rows, int width, const float* x, const float* weight, float eps,
                              T* out) {
  __shared__ float scratch[32];
  const int r = blockIdx.x;
  if (r >= *rows.num) return;
  x += int64_t{r} * width;
  out += int64_t{r} * width;
  float sum = 0;
  for (int i = threadIdx.x; i < width; i += kThreads) sum = fmaf(x[i], x[i], sum);
  sum = BlockReduce(sum, scratch, 0.0f, Sum());
  const float scale = __fdiv_rn(1.0f, __fsqrt_rn(sum / width + eps));
  for (int i = threadIdx.x; i < width; i += kThreads) {
    out[i] = FromFloat<T>(x[i] * scale * weight[i]);
  }
}

}  // namespace

void RmsNorm(Stream& stream, Rows rows, int width, const float* x, const float* weight, float eps,
             bool bf16, void* act_out) {
  ForElement(bf16, [&](auto element) {
    using T = decltype(element);
    Launch(stream, rows.max, kThreads, 0, RmsNormKernel<T>, rows, width, x, weight, eps,
           static_cast<T*>(act_out));
  });
}

}  // namespace pregate::cuda

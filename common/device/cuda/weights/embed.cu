// Rows of a packed table as f32, one block a row.
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void EmbedKernel(Rows rows, const int32_t* ids, const T* table, int64_t stride,
                            int width, float scale, float* out) {
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *rows.num) return;
  const T* row = table + ids[r] * stride;
  for (int i = threadIdx.x; i < width; i += kThreads)
    out[int64_t{r} * width + i] = __fmul_rn(scale, ToFloat(row[i]));
}

}  // namespace

void Embed(Stream& stream, Rows rows, const int32_t* ids, const void* table, int64_t stride,
           int width, bool bf16, float scale, float* out) {
  ForElement(bf16, [&](auto element) {
    using T = decltype(element);
    LaunchEarly(stream, rows.max, kThreads, 0, EmbedKernel<T>, rows, ids,
                static_cast<const T*>(table), stride, width, scale, out);
  });
}

}  // namespace pregate::cuda

// Sums into the residual stream, biases and the router's activation.
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kColumns = 1024;  // of a row, by one block

// Calls f(index) for the block's elements of its row.
template <class F>
__device__ void ForColumns(Rows rows, int width, const F& f) {
  const int r = blockIdx.x;
  AwaitKernelsBefore();
  if (r >= *rows.num) return;
  const int end = min(width, (blockIdx.y + 1) * kColumns);
  for (int i = blockIdx.y * kColumns + threadIdx.x; i < end; i += kThreads) {
    f(int64_t{r} * width + i, i);
  }
}

dim3 Grid(Rows rows, int width) { return dim3(rows.max, CeilDiv(width, kColumns)); }

template <class T>
__global__ void AddFfnKernel(Rows rows, int width, const float* shared, const float* own,
                             float scale, float* h) {
  ForColumns(rows, width, [&](int64_t at, int) {
    float s = shared == nullptr ? 0 : shared[at];
    if (own != nullptr) s = __fadd_rn(s, ToFloat(FromFloat<T>(own[at])));
    h[at] = __fadd_rn(h[at], __fmul_rn(scale, s));
  });
}

__global__ void AddBiasKernel(Rows rows, int width, const float* bias, float* out) {
  ForColumns(rows, width, [&](int64_t at, int i) { out[at] = __fadd_rn(out[at], bias[i]); });
}

template <class T>
__global__ void ActivateKernel(Rows rows, int width, bool silu, const float* x, T* out) {
  ForColumns(rows, width, [&](int64_t at, int) {
    out[at] = FromFloat<T>(silu ? Silu(x[at]) : fmaxf(x[at], 0.0f));
  });
}

}  // namespace

void AddFfn(Stream& stream, Rows rows, int width, const float* shared, const float* own, bool bf16,
            float scale, float* h) {
  ForElement(bf16, [&](auto element) {
    LaunchEarly(stream, Grid(rows, width), kThreads, 0, AddFfnKernel<decltype(element)>, rows,
                width, shared, own, scale, h);
  });
}

void AddBias(Stream& stream, Rows rows, int width, const float* bias, float* out) {
  LaunchEarly(stream, Grid(rows, width), kThreads, 0, AddBiasKernel, rows, width, bias, out);
}

void Activate(Stream& stream, Rows rows, int width, bool silu, const float* x, bool bf16,
              void* act_out) {
  ForElement(bf16, [&](auto element) {
    using T = decltype(element);
    LaunchEarly(stream, Grid(rows, width), kThreads, 0, ActivateKernel<T>, rows, width, silu, x,
                static_cast<T*>(act_out));
  });
}

}  // namespace pregate::cuda

// act_out = round(h / sqrt(mean(h^2) + eps) * weight), and what is added to h before.
#include "common/device/cuda/rms_norm.cuh"

namespace pregate::cuda {
namespace {

__device__ void StoreFour(float* to, const float4& v) { *reinterpret_cast<float4*>(to) = v; }
__device__ void StoreFour(Bf16* to, const float4& v) {
  *reinterpret_cast<uint2*>(to) = {RoundPair(v.x, v.y), RoundPair(v.z, v.w)};
}

// What is added to a row before its norm: scale * (shared + round(own)), see AddFfn.
struct Addend {
  const float *shared = nullptr, *own = nullptr;
  bool wire_bf16 = false;
  float scale = 1;

  __device__ bool any() const { return shared != nullptr || own != nullptr; }
  __device__ float Add(float h, float s, float o) const {
    if (own != nullptr) s = __fadd_rn(s, wire_bf16 ? ToFloat(FromFloat<Bf16>(o)) : o);
    return __fadd_rn(h, __fmul_rn(scale, s));
  }
  __device__ float4 Add(const float4& h, int64_t at) const {
    const float4 zeros = {0, 0, 0, 0};
    const float4 s = shared != nullptr ? *reinterpret_cast<const float4*>(shared + at) : zeros;
    const float4 o = own != nullptr ? *reinterpret_cast<const float4*>(own + at) : zeros;
    return {Add(h.x, s.x, o.x), Add(h.y, s.y, o.y), Add(h.z, s.z, o.z), Add(h.w, s.w, o.w)};
  }
};

// One block a row. kLoads > 0: width is a multiple of 4 and at most kLoads kNormStep; the row is read
// once, all of it at the same time. Else nothing is added.
template <int kLoads, class T>
__global__ void __launch_bounds__(kNormThreads)
    RmsNormKernel(Rows rows, int width, float* h, Addend addend, const float* weight, float eps,
                  T* out) {
  __shared__ float warp_sums[kNormThreads / 32];
  const int r = blockIdx.x, mine = 4 * threadIdx.x;
  const int64_t row = int64_t{r} * width;
  AwaitKernelsBefore();
  if (r >= *rows.num) return;
  float4 held[kLoads > 0 ? kLoads : 1], weights[kLoads > 0 ? kLoads : 1];
  float sum = 0;
  if constexpr (kLoads > 0) {
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int c = mine + j * kNormStep;
      if (c >= width) break;
      held[j] = *reinterpret_cast<const float4*>(h + row + c);
      weights[j] = *reinterpret_cast<const float4*>(weight + c);
      if (addend.any()) held[j] = addend.Add(held[j], row + c);
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int c = mine + j * kNormStep;
      if (c >= width) break;
      sum = AddSquares(sum, held[j]);
      if (addend.any()) StoreFour(h + row + c, held[j]);
    }
  } else {
    const bool aligned = width % 4 == 0;
    for (int c = mine; c < width; c += kNormStep) {
      sum = AddSquares(sum, FourChannels(h + row, c, width, aligned));
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
      StoreFour(out + row + c,
                {Normed(held[j].x, scale, weights[j].x), Normed(held[j].y, scale, weights[j].y),
                 Normed(held[j].z, scale, weights[j].z), Normed(held[j].w, scale, weights[j].w)});
    }
  } else {
    for (int c = threadIdx.x; c < width; c += kNormThreads) {
      out[row + c] = FromFloat<T>(Normed(h[row + c], scale, weight[c]));
    }
  }
}

int LoadsOf(int width) {
  const int loads = width % 4 == 0 ? CeilDiv(width, kNormStep) : 0;
  return loads <= 8 ? loads : 0;
}

template <class T>
void Run(Stream& stream, Rows rows, int width, float* h, const Addend& addend, const float* weight,
         float eps, T* out) {
  const int loads = LoadsOf(width);
  const auto kernel = loads == 0   ? RmsNormKernel<0, T>
                      : loads == 1 ? RmsNormKernel<1, T>
                      : loads == 2 ? RmsNormKernel<2, T>
                      : loads <= 4 ? RmsNormKernel<4, T>
                                   : RmsNormKernel<8, T>;
  LaunchEarly(stream, rows.max, kNormThreads, 0, kernel, rows, width, h, addend, weight, eps, out);
}

}  // namespace

void RmsNorm(Stream& stream, Rows rows, int width, const float* x, const float* weight, float eps,
             bool bf16, void* act_out) {
  ForElement(bf16, [&](auto element) {
    Run(stream, rows, width, const_cast<float*>(x), {}, weight, eps,
        static_cast<decltype(element)*>(act_out));
  });
}

void AddFfnNorm(Stream& stream, Rows rows, int width, const float* shared, const float* own,
                bool wire_bf16, float scale, float* h, const float* weight, float eps, bool bf16,
                void* act_out) {
  if (LoadsOf(width) == 0) {
    AddFfn(stream, rows, width, shared, own, wire_bf16, scale, h);
    return RmsNorm(stream, rows, width, h, weight, eps, bf16, act_out);
  }
  ForElement(bf16, [&](auto element) {
    Run(stream, rows, width, h, {shared, own, wire_bf16, scale}, weight, eps,
        static_cast<decltype(element)*>(act_out));
  });
}

}  // namespace pregate::cuda

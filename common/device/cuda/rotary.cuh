// The rotary embedding of one pair of channels.
#pragma once

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

struct Turn {
  float sine = 0, cosine = 1;

  Turn() = default;
  __device__ Turn(int position, float inv_freq, float scale) {
    sincosf(__fmul_rn(static_cast<float>(position), inv_freq), &sine, &cosine);
    sine = __fmul_rn(sine, scale);
    cosine = __fmul_rn(cosine, scale);
  }
  // The channel of the first half, then its partner of the second.
  __device__ float First(float a, float b) const {
    return __fmaf_rn(a, cosine, -__fmul_rn(b, sine));
  }
  __device__ float Second(float a, float b) const {
    return __fmaf_rn(b, cosine, __fmul_rn(a, sine));
  }
};

}  // namespace pregate::cuda

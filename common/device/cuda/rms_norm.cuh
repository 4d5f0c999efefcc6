// The order of RmsNorm's sum: 256 threads, each over four neighbouring channels in every 1024; then
// lanes pairwise, then warps in order.
#pragma once

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

inline constexpr int kNormThreads = 256;
inline constexpr int kNormStep = 4 * kNormThreads;  // channels

// Channels c .. c + 3 of a row of `width`; zeros beyond it.
__device__ inline float4 FourChannels(const float* row, int c, int width, bool aligned) {
  if (aligned && c + 4 <= width) return __ldcg(reinterpret_cast<const float4*>(row + c));
  float four[4] = {};
  for (int i = 0; i < 4 && c + i < width; ++i) four[i] = __ldcg(row + c + i);
  return {four[0], four[1], four[2], four[3]};
}
__device__ inline float AddSquares(float sum, const float4& x) {
  sum = fmaf(x.x, x.x, sum);
  sum = fmaf(x.y, x.y, sum);
  sum = fmaf(x.z, x.z, sum);
  return fmaf(x.w, x.w, sum);
}
// From the sums of the eight warps.
__device__ inline float NormScale(const float* warp_sums, int width, float eps) {
  float sum = 0;
  for (int w = 0; w < kNormThreads / 32; ++w) sum += warp_sums[w];
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, static_cast<float>(width)), eps)));
}
__device__ inline float Normed(float x, float scale, float weight) {
  return __fmul_rn(__fmul_rn(x, scale), weight);
}

}  // namespace pregate::cuda

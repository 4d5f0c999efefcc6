// What the dense model's and the router's networks share. Only LibTorch's users include this.
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace pregate {

// Root mean square over the last dimension. x [..., d], weight [d].
inline at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
}

// x [windows, heads, tokens, head_dim], the two halves of head_dim rotated against each other;
// cos and sin [tokens, head_dim / 2].
inline at::Tensor Rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

// All values, on the host.
inline std::vector<float> ToFloats(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kFloat).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

}  // namespace pregate

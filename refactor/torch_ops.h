// What the dense model's and the router's networks share. Only LibTorch's users include this.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <vector>

// Whether this LibTorch has an attention and a norm of one kernel each.
#define PREGATE_TORCH_FUSES (TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR >= 209)

namespace pregate {

// Root mean square over the last dimension. x [..., d], weight [d].
inline at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
#if PREGATE_TORCH_FUSES
  return at::rms_norm(x, {x.size(-1)}, weight, eps);
#else
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
#endif
}

// Attention of the last tokens to all up to their own: q [windows, heads, tokens, head_dim], k and v
// [windows, kv heads, seen, head_dim] → as q. REQUIRES: tokens is seen, or 1.
#if PREGATE_TORCH_FUSES
inline at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  double scale) {
  return at::scaled_dot_product_attention(q, k, v, {}, 0, /*is_causal=*/q.size(2) > 1, scale,
                                          /*enable_gqa=*/true);
}
#endif

// x [..., head_dim], the two halves of head_dim rotated against each other; cos and sin
// [..., head_dim / 2], which broadcast to x's halves.
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

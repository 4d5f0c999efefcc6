// What tuning does between its matrix products, as one pass over memory each. All matrices are
// row-major bf16 on the card unless said otherwise; sums are f32, in an order that does not depend
// on the run.
//
// Each call enqueues one kernel and returns what launching it gave; thread-safe. REQUIRES: addresses
// are multiples of 16 bytes; routes and next are below the experts and the vocab.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace pregate::fused {

// Rotary positions. x, out [rows, heads, head_dim]; row r is position first + r % tokens; cos, sin [positions, turned / 2] f32. Of
// each head's first `turned` channels the two halves are rotated against each other, by the angle's negative where `back`; the
// rest is copied. turned and head_dim are multiples of 4.
struct RopeShape {
  int64_t rows;
  int heads, head_dim, turned, tokens, first;
  bool back;
};
cudaError_t Rope(const RopeShape& shape, const __nv_bfloat16* x, const float* cos, const float* sin,
                 __nv_bfloat16* out, cudaStream_t stream);

// out = silu(gate) * up * gains[route]; gate, up, out [rows, width], gains [experts, width] f32, routes [rows]; no routes: gains of 1.
// width is a multiple of 8.
struct GatedShape {
  int64_t rows;
  int width;
};
cudaError_t Gated(const GatedShape& shape, const __nv_bfloat16* gate, const __nv_bfloat16* up,
                  const float* gains, const int64_t* routes, __nv_bfloat16* out,
                  cudaStream_t stream);
// The gradients of gate and up from out's.
cudaError_t GatedBack(const GatedShape& shape, const __nv_bfloat16* grad, const __nv_bfloat16* gate,
                      const __nv_bfloat16* up, const float* gains, const int64_t* routes,
                      __nv_bfloat16* grad_gate, __nv_bfloat16* grad_up, cudaStream_t stream);

// Of each row's two distributions, p = softmax(parent) and q = softmax(logits): the divergence sum p log(p / q) and -log q[next];
// logits, parent [rows, vocab], next [rows]; sums [rows, 2]: log sum exp of logits and of the parent's. No parent: divergence 0.
// vocab is a multiple of 8.
struct LossShape {
  int64_t rows;
  int vocab;
};
cudaError_t Losses(const LossShape& shape, const __nv_bfloat16* logits, const __nv_bfloat16* parent,
                   const int64_t* next, float* divergence, float* nll, float* sums,
                   cudaStream_t stream);
// The gradient of the logits: (gd + gn) q - gd p - gn onehot(next), with the losses' gradients gd and gn [rows].
cudaError_t LossesBack(const LossShape& shape, const __nv_bfloat16* logits,
                       const __nv_bfloat16* parent, const int64_t* next, const float* sums,
                       const float* grad_divergence, const float* grad_nll, __nv_bfloat16* grad,
                       cudaStream_t stream);

// Of each row, dense plus the level next to weight - dense: (code - middle) * scale, code 0 .. 2 middle; weight, dense [rows, columns]
// f32, scale [rows] f32, 0: no level but dense. What of weight is more than half a level beyond the outermost is set to there.
// columns is a multiple of 4.
struct StoredShape {
  int64_t rows;
  int columns;
  float middle;
};
cudaError_t Stored(const StoredShape& shape, float* weight, const float* dense, const float* scale,
                   __nv_bfloat16* out, cudaStream_t stream);

}  // namespace pregate::fused

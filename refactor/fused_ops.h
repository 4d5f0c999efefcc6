// Operations of tuning that LibTorch does in several passes over memory, as one kernel each, with
// gradients: on a card, in bf16, where this was built for LibTorch with CUDA. Callers do them in
// LibTorch's own operations elsewhere. Only LibTorch's users include this.
#pragma once

#include <ATen/ATen.h>

namespace pregate {

// Of the card in use, what cudaMemGetInfo says, and the most that LibTorch had in use of it since this
// process began; 0 where this was not built for one.
int64_t FreeCardBytes();
int64_t PeakCardBytes();

// Whether the operations below take tensors like x with so many values in the last dimension.
bool TakesFused(const at::Tensor& x, int64_t last);

// x [windows, tokens, heads, head_dim] of the positions from `first` on → the same, the first
// 2 * cos.size(1) channels of a head turned, half against half. cos, sin [positions, turned / 2].
at::Tensor FusedRope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                     int64_t first);

// silu(gate) * up * gains[routes], [rows, width]; gains [experts, width] f32 and routes [rows], or
// neither.
at::Tensor FusedGated(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gains,
                      const at::Tensor& routes);

// [rows] each, f32: the divergence of softmax(parent) from softmax(logits), undefined without a
// parent, and -log softmax(logits)[next]. logits, parent [rows, vocab], next [rows].
struct RowLosses {
  at::Tensor divergence, nll;
};
RowLosses FusedLosses(const at::Tensor& logits, const at::Tensor& parent, const at::Tensor& next);

// CodeGrid::Stored, in bf16: weight, dense [rows, columns] f32, scale [rows, 1]; codes are 0 .. 2 * middle.
bool TakesFusedStored(const at::Tensor& weight);
at::Tensor FusedStored(const at::Tensor& weight, const at::Tensor& dense, const at::Tensor& scale,
                       double middle);

}  // namespace pregate

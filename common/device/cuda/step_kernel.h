// The step kernel: all layers of a step of few rows in one launch (step_kernel.cu). Plain arguments,
// as in kernels.h; step_layers.h decides what it takes and makes them.
#pragma once

#include "common/device/cuda/kernels.h"

namespace pregate::cuda {

inline constexpr int kStepRowsMax = 8;
inline constexpr int kStepHiddenMax = 4096;

// In device memory. Images lie as weights/image.h says, bf16.
struct StepLayer {
  const void *qkv, *o;
  const float *attention_norm, *ffn_norm;
  void* kv;
  const void* const* shared_unit;  // [1]; not looked at where the width is 0
  const void* const* own_units;    // [experts]
  int num_blocks;                  // of kv
  int rotates;                     // 0: positions do not enter
  int shared_width, own_width;
  // Elements from a unit's gate to its up and down.
  int shared_up, shared_down, own_up, own_down;
};

// Widths, `hidden` and head_dim are multiples of 16; each layer has a shared or an own part.
struct StepProblem {
  PagedTokens tokens;
  Heads heads;
  float scale;  // of q . k
  int window;   // keys that a token sees, itself included; 0: all
  int hidden;
  float attention_eps, ffn_eps;
  float attention_residual, ffn_residual;
  Rotation rotation;  // of layers that rotate: all channels of a head
  bool wire_bf16;
  const StepLayer* layers;  // [num_layers]
  int num_layers;
  const int32_t *offsets, *order;  // ExpertGroups; null where no layer has an own part
  int num_experts;
  float* h;  // [max, hidden]
  // Scratch.
  float* q;         // [max, q width]
  void* act;        // [max, q width] bf16
  void* mid;        // [max, mid_stride] bf16: shared, then own
  int mid_stride;   // of the layer with the widest units
  void* tile_sums;  // [SplitAttentionBytes]
  BarrierCounts* barrier;
};

// All blocks run at once, one a multiprocessor.
struct StepLaunch {
  int blocks = 0, slots = 0, shared_bytes = 0;
};
// slots 0: the ring does not fit into shared memory beside the rows.
StepLaunch PlanStepLaunch(const StepProblem& problem, int multiprocessors, int shared_bytes_max);
// The error is noted where it could not be launched.
void RunStepKernel(Stream& stream, const StepProblem& problem, const StepLaunch& launch);

}  // namespace pregate::cuda

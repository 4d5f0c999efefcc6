// The two attention kernels' common arguments.
#pragma once

#include "common/device/cuda/paged_kv.cuh"

namespace pregate::cuda {

struct AttentionProblem {
  PagedTokens tokens;
  Heads heads;
  const float* q;  // [max, heads, head_dim]
  PagedKv kv;
  float scale;
  int window;  // keys that a token sees, itself included; 0: all

  __device__ int FirstKey(int position) const {
    return window > 0 ? max(0, position + 1 - window) : 0;
  }
  bool out_bf16;
  void* out;  // [max, heads, head_dim]
};

// Any types, any head_dim up to kHeadDimMax.
void PlainAttention(Stream& stream, const AttentionProblem& problem);
// bf16, head_dim a multiple of 8 up to 128: a choice by shape, so that a model always meets the
// same kernel.
bool TensorAttentionTakes(const AttentionProblem& problem);
void TensorAttention(Stream& stream, const AttentionProblem& problem);

}  // namespace pregate::cuda

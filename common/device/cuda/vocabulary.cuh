// The best of many values over one block.
#pragma once

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

struct Candidate {
  float value;
  int32_t id;
};

// The larger value, ties to the lower id. An id of -1 is no candidate.
struct Better {
  __device__ Candidate operator()(Candidate a, Candidate b) const {
    if (b.id < 0) return a;
    if (a.id < 0) return b;
    return b.value > a.value || (b.value == a.value && b.id < a.id) ? b : a;
  }
};

__device__ inline Candidate ShuffleXor(Candidate c, int offset) {
  return {__shfl_xor_sync(~0u, c.value, offset), __shfl_xor_sync(~0u, c.id, offset)};
}

// Best of each thread's own; the same answer in every thread.
__device__ inline Candidate BlockBest(Candidate mine, Candidate* scratch) {
  const Better better;
  for (int offset = 16; offset > 0; offset /= 2) mine = better(mine, ShuffleXor(mine, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = mine;
  __syncthreads();
  Candidate best = scratch[0];
  for (int w = 1; w < blockDim.x / 32; ++w) best = better(best, scratch[w]);
  return best;
}

// Best of value(0) .. value(n - 1).
template <class Value>
__device__ Candidate BlockBest(int n, Candidate* scratch, const Value& value) {
  const Better better;
  Candidate mine = {0, -1};
  for (int i = threadIdx.x; i < n; i += blockDim.x) mine = better(mine, {value(i), i});
  return BlockBest(mine, scratch);
}

}  // namespace pregate::cuda

// The order of every sum of bf16 products: tensor-core products of 16 inputs each, in order, into one
// f32 sum. cuBLASLt's algorithms that keep the inputs in one piece have it too (linear_bits_test.cc),
// and so has the step kernel, so a row's bits do not depend on which of them ran it.
#pragma once

#include "common/device/cuda/mma.cuh"
#include "common/device/cuda/weights/grouped_matmul.cuh"

namespace pregate::cuda {

// Inputs k .. k + 7 of a row of x whose rows may lie at any address; zeros beyond `inputs`.
__device__ inline uint4 GatherEight(const Bf16* row, int k, int inputs) {
  uint32_t words[4] = {};
  for (int i = 0; i < 8; ++i) {
    if (k + i < inputs) {
      words[i / 2] |= static_cast<uint32_t>(__bfloat16_as_ushort(row[k + i])) << (i % 2 * 16);
    }
  }
  return {words[0], words[1], words[2], words[3]};
}

// A row of x may be read 16 bytes at a time.
__host__ __device__ inline bool HasAlignedRows(const GroupedMatmul& p) {
  return p.x_stride % 8 == 0 && p.inputs % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
}

}  // namespace pregate::cuda

// The order of every sum in the two bf16 products: inputs are cut into kChunks equal runs; within a
// run, tensor-core products of 32 inputs (Mma32) follow one another from zero; the runs' sums are
// then added in order, from zero. So a row's bits do not depend on which kernel ran it.
#pragma once

#include "common/device/cuda/mma.cuh"
#include "common/device/cuda/weights/grouped_matmul.cuh"

namespace pregate::cuda {

inline constexpr int kChunks = 8;

// Inputs of one run: a multiple of 64.
__host__ __device__ inline int ChunkInputs(int inputs) {
  const int even = (inputs + kChunks - 1) / kChunks;
  return (even + 63) / 64 * 64;
}

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

void SkinnyMatmul(Stream& stream, const GroupedMatmul& problem, bool gate_up);
void TiledMatmul(Stream& stream, const GroupedMatmul& problem, bool gate_up);

}  // namespace pregate::cuda

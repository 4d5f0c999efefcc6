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

constexpr int kDepth = 64;            // inputs of a stage
constexpr int kColumns = kDepth / 8;  // vectors of 16 bytes of a row

// Tiles of weight rows begin at an output. For gate and up each 16 rows are 8 of gate and the same 8 of
// up, so that a thread holds both sums of an output.
template <bool kGateUp>
__host__ __device__ constexpr int OutputsOf(int weight_rows) {
  return kGateUp ? weight_rows / 2 : weight_rows;
}
// Null beyond the outputs.
template <bool kGateUp>
__device__ inline const Bf16* WeightRow(const GroupedMatmul& p, int group, int first_output,
                                        int row) {
  const bool is_up = kGateUp && row % 16 >= 8;
  const int output = first_output + (kGateUp ? row / 16 * 8 + row % 8 : row);
  const Bf16* base = Weights<Bf16>(p, group, is_up ? p.second_section_bytes : p.section_bytes);
  return output < p.outputs ? base + output * p.weight_stride : nullptr;
}
// Null beyond the tile's rows.
__device__ inline const Bf16* InputRow(const GroupedMatmul& p, const RowTile& tile, int row) {
  if (row >= tile.count) return nullptr;
  return static_cast<const Bf16*>(p.x) + SourceRow(p, tile.begin + row) * p.x_stride;
}
// Sums of 16 weight rows, of which g and g + 8 are low and high, with row r of the tile.
template <bool kGateUp>
__device__ inline void StoreSums(const GroupedMatmul& p, const RowTile& tile, int r,
                                 int first_output, int g, float low, float high) {
  if (r >= tile.count) return;
  if constexpr (kGateUp) {
    StoreResult<Bf16, true>(p, tile.begin + r, first_output + g, low, high);
  } else {
    StoreResult<Bf16, false>(p, tile.begin + r, first_output + g, low, 0);
    StoreResult<Bf16, false>(p, tile.begin + r, first_output + g + 8, high, 0);
  }
}

// A row of x may be read 16 bytes at a time.
__host__ __device__ inline bool HasAlignedRows(const GroupedMatmul& p) {
  return p.x_stride % 8 == 0 && p.inputs % 8 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
}

// For Hopper. REQUIRES: HasWarpgroups(), aligned rows of x. `also` (may be null) runs beside it.
void RingMatmul(Stream& stream, const GroupedMatmul& problem, const GroupedMatmul* also,
                bool gate_up);
// The same for many rows; false where it is not for such weights.
bool ClusterMatmul(Stream& stream, const GroupedMatmul& problem, const GroupedMatmul* also,
                   bool gate_up);

}  // namespace pregate::cuda

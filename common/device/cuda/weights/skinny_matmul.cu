// bf16 products of few rows, bound by the bytes of the weights: a block makes 16 outputs of up to
// 8 kRowTiles rows; each of its kChunks warps streams one run of inputs straight into registers, so
// that many loads are in flight and no weight is read twice.
#include "common/device/cuda/weights/tensor_matmul.cuh"

namespace pregate::cuda {
namespace {

constexpr int kOutputs = 16;

__device__ uint4 LoadWeights(const Bf16* row, int k, int64_t stride) {
  if (row == nullptr || k >= stride) return {0, 0, 0, 0};
  return __ldcs(reinterpret_cast<const uint4*>(row + k));
}

__device__ uint4 LoadInputs(const Bf16* row, int k, int inputs, bool aligned) {
  if (row == nullptr || k >= inputs) return {0, 0, 0, 0};
  return aligned ? *reinterpret_cast<const uint4*>(row + k) : GatherEight(row, k, inputs);
}

// Rows g and g + 8 of a block's 16 outputs.
struct WeightRows {
  const Bf16 *low, *high;

  __device__ WeightRows(const Bf16* weights, const GroupedMatmul& p, int output)
      : low(output < p.outputs ? weights + output * p.weight_stride : nullptr),
        high(output + 8 < p.outputs ? weights + (output + 8) * p.weight_stride : nullptr) {}
};

template <int kRowTiles, bool kGateUp>
__global__ void __launch_bounds__(kChunks * 32) SkinnyMatmulKernel(GroupedMatmul p, bool aligned) {
  constexpr int kRows = kRowTiles * 8, kSums = kGateUp ? 2 : 1;
  __shared__ float partial[kChunks][kSums][kRows][kOutputs + 1];
  const RowTile tile = FindTile(p, blockIdx.y, kRows);
  if (tile.count == 0) return;
  const Bf16* weights = Weights<Bf16>(p, tile.group, p.section_bytes);
  if (weights == nullptr) return;
  const int chunk = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int first_output = blockIdx.x * kOutputs;
  const WeightRows w(weights, p, first_output + g);
  const WeightRows up(Weights<Bf16>(p, tile.group, p.second_section_bytes), p, first_output + g);
  const Bf16* x[kRowTiles];
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
    const bool there = i * 8 + g < tile.count;
    x[i] = there ? static_cast<const Bf16*>(p.x) + SourceRow(p, tile.begin + i * 8 + g) * p.x_stride
                 : nullptr;
  }

  Accumulator sums[kSums][kRowTiles];
  const int run = ChunkInputs(p.inputs);
  const int end = min(static_cast<int>(p.weight_stride), (chunk + 1) * run);
#pragma unroll 4
  for (int k = chunk * run; k < end; k += 32) {
    const uint4 low = LoadWeights(w.low, k + 8 * t, p.weight_stride);
    const uint4 high = LoadWeights(w.high, k + 8 * t, p.weight_stride);
    uint4 up_low, up_high;
    if (kGateUp) {
      up_low = LoadWeights(up.low, k + 8 * t, p.weight_stride);
      up_high = LoadWeights(up.high, k + 8 * t, p.weight_stride);
    }
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      const uint4 b = LoadInputs(x[i], k + 8 * t, p.inputs, aligned);
      Mma32(sums[0][i], low, high, b);
      if constexpr (kGateUp) Mma32(sums[1][i], up_low, up_high, b);
    }
  }
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        partial[chunk][s][i * 8 + 2 * t + c % 2][g + c / 2 * 8] = sums[s][i].c[c];
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < tile.count * kOutputs; i += kChunks * 32) {
    const int r = i / kOutputs, o = i % kOutputs;
    float total[2] = {};
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) total[s] = __fadd_rn(total[s], partial[c][s][r][o]);
    }
    StoreResult<Bf16, kGateUp>(p, tile.begin + r, first_output + o, total[0], total[1]);
  }
}

template <int kRowTiles>
void LaunchSkinny(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  const dim3 grid(CeilDiv(p.out_columns, kOutputs), TilesMax(p, kRowTiles * 8));
  Launch(stream, grid, kChunks * 32, 0,
         gate_up ? SkinnyMatmulKernel<kRowTiles, true> : SkinnyMatmulKernel<kRowTiles, false>, p,
         HasAlignedRows(p));
}

}  // namespace

void SkinnyMatmul(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  if (p.rows.max <= 8) return LaunchSkinny<1>(stream, p, gate_up);
  if (p.rows.max <= 16) return LaunchSkinny<2>(stream, p, gate_up);
  LaunchSkinny<4>(stream, p, gate_up);
}

}  // namespace pregate::cuda

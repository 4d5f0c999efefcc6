// Grouped matrix products in f32: a block of 16 x 16 threads makes a tile of 32 outputs x 32 rows.
// Every sum is one chain of fused multiply-adds over the inputs in order.
#include "common/device/cuda/weights/grouped_matmul.cuh"

namespace pregate::cuda {
namespace {

constexpr int kTile = 32;
constexpr int kDepth = 32;
constexpr int kThreads = 256;

using Panel = float[kDepth][kTile + 1];  // [input][row of w or x]

// `row(i)` points to the tile's i-th row, or is null for a row of zeros.
template <class Row>
__device__ void LoadPanel(Panel& panel, int first, int inputs, const Row& row) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int k = i % kDepth;
    const float* source = row(i / kDepth);
    panel[k][i / kDepth] = source != nullptr && first + k < inputs ? source[first + k] : 0;
  }
}

__device__ void Multiply(const Panel& w, const Panel& x, float (&sums)[2][2]) {
  const int o = threadIdx.x % 16 * 2, r = threadIdx.x / 16 * 2;
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) sums[i][j] = fmaf(w[k][o + i], x[k][r + j], sums[i][j]);
    }
  }
}

template <bool kGateUp>
__global__ void SimtMatmulKernel(GroupedMatmul p) {
  __shared__ Panel w, up, x;
  const RowTile tile = FindTile(p, blockIdx.y, kTile);
  if (tile.count == 0) return;
  const float* weights = Weights<float>(p, tile.group, p.section_bytes);
  if (weights == nullptr) return;
  const float* up_weights = Weights<float>(p, tile.group, p.second_section_bytes);
  const int first_output = blockIdx.x * kTile;
  const auto weight_row = [&](const float* from, int i) {
    return first_output + i < p.outputs ? from + (first_output + i) * p.weight_stride : nullptr;
  };
  const auto x_row = [&](int i) {
    return i < tile.count
               ? static_cast<const float*>(p.x) + SourceRow(p, tile.begin + i) * p.x_stride
               : nullptr;
  };
  float sums[2][2] = {}, up_sums[2][2] = {};
  for (int k = 0; k < p.inputs; k += kDepth) {
    __syncthreads();
    LoadPanel(w, k, p.inputs, [&](int i) { return weight_row(weights, i); });
    if (kGateUp) LoadPanel(up, k, p.inputs, [&](int i) { return weight_row(up_weights, i); });
    LoadPanel(x, k, p.inputs, x_row);
    __syncthreads();
    Multiply(w, x, sums);
    if (kGateUp) Multiply(up, x, up_sums);
  }
  for (int j = 0; j < 2; ++j) {
    const int r = threadIdx.x / 16 * 2 + j;
    if (r >= tile.count) continue;
    for (int i = 0; i < 2; ++i) {
      const int o = first_output + threadIdx.x % 16 * 2 + i;
      StoreResult<float, kGateUp>(p, tile.begin + r, o, sums[i][j], up_sums[i][j]);
    }
  }
}

}  // namespace

void SimtMatmul(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  const dim3 grid(CeilDiv(p.out_columns, kTile), TilesMax(p, kTile));
  Launch(stream, grid, kThreads, 0, gate_up ? SimtMatmulKernel<true> : SimtMatmulKernel<false>, p);
}

namespace {

void Run(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also, bool gate_up) {
  if (p.bf16) return TensorMatmul(stream, p, also, gate_up);
  SimtMatmul(stream, p, gate_up);
  if (also != nullptr) SimtMatmul(stream, *also, gate_up);
}

}  // namespace

void GroupedLinear(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also) {
  Run(stream, p, also, false);
}

void GroupedGateUp(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also) {
  Run(stream, p, also, true);
}

}  // namespace pregate::cuda

// Matrix products in f32. Every sum is one chain of fused multiply-adds over the inputs in order, so it
// does not matter which of two kernels made it: tiles of 64 outputs x 64 rows, or, for few rows, tiles
// of 32 x 8 whose inputs are all on their way at once.
#include "common/device/cuda/mma.cuh"
#include "common/device/cuda/weights/grouped_matmul.cuh"

namespace pregate::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kDepth = 32;
constexpr int kThreads = 256;
constexpr int kEach = 4;  // outputs of a thread, and rows

using Panel = float[kDepth][kTile + kEach];  // [input][row of w or x]

// `row(i)` points to the tile's i-th row, or is null for a row of zeros.
template <class Row>
__device__ void LoadPanel(Panel& panel, int first, int inputs, const Row& row) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    const int k = i % kDepth;
    const float* source = row(i / kDepth);
    panel[k][i / kDepth] = source != nullptr && first + k < inputs ? source[first + k] : 0;
  }
}

__device__ void Multiply(const Panel& w, const Panel& x, float (&sums)[kEach][kEach]) {
  const int o = threadIdx.x % 16 * kEach, r = threadIdx.x / 16 * kEach;
#pragma unroll 8
  for (int k = 0; k < kDepth; ++k) {
    const float4 ws = *reinterpret_cast<const float4*>(&w[k][o]);
    const float4 xs = *reinterpret_cast<const float4*>(&x[k][r]);
    const float a[kEach] = {ws.x, ws.y, ws.z, ws.w}, b[kEach] = {xs.x, xs.y, xs.z, xs.w};
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
    }
  }
}

template <bool kGateUp>
__global__ void __launch_bounds__(kThreads) SimtMatmulKernel(GroupedMatmul p) {
  __shared__ __align__(16) Panel w, up, x;
  AwaitKernelsBefore();
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
  float sums[kEach][kEach] = {}, up_sums[kEach][kEach] = {};
  for (int k = 0; k < p.inputs; k += kDepth) {
    __syncthreads();
    LoadPanel(w, k, p.inputs, [&](int i) { return weight_row(weights, i); });
    if (kGateUp) LoadPanel(up, k, p.inputs, [&](int i) { return weight_row(up_weights, i); });
    LoadPanel(x, k, p.inputs, x_row);
    __syncthreads();
    Multiply(w, x, sums);
    if (kGateUp) Multiply(up, x, up_sums);
  }
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
    const int r = threadIdx.x / 16 * kEach + j;
    if (r >= tile.count) continue;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int o = first_output + threadIdx.x % 16 * kEach + i;
      StoreResult<float, kGateUp>(p, tile.begin + r, o, sums[i][j], up_sums[i][j]);
    }
  }
}

// --- few rows of one matrix ---
constexpr int kFewRowsMax = 256;  // of a step
constexpr int kFewOutputs = 32, kFewRows = 8;
constexpr int kFewDepth = 256, kFewStages = 3;
constexpr int kFewPitch = kFewDepth + 4;  // so that lanes that read together hit different banks
constexpr int kFewStage = (kFewOutputs + kFewRows) * kFewPitch;

bool TakesFewRows(const GroupedMatmul& p) {
  return p.offsets == nullptr && p.x_index == nullptr && p.rows.max <= kFewRowsMax &&
         p.inputs % 4 == 0 && p.x_stride % 4 == 0 && p.weight_stride % 4 == 0;
}

// Thread (o, r) = (lane, warp) makes output o of the tile for row r.
__global__ void __launch_bounds__(kFewOutputs* kFewRows) FewRowsKernel(GroupedMatmul p) {
  extern __shared__ __align__(16) float stages[];
  const int first_output = blockIdx.x * kFewOutputs, first_row = blockIdx.y * kFewRows;
  const float* weights = Weights<float>(p, 0, p.section_bytes);
  if (weights == nullptr) return AwaitKernelsBefore();
  const float* x = static_cast<const float*>(p.x);
  const auto start = [&](int stage, bool of_x) {
    const int k = stage * kFewDepth, count = min(kFewDepth, p.inputs - k) / 4;
    const int rows = of_x ? kFewRows : kFewOutputs;
    float* to = stages + stage % kFewStages * kFewStage + (of_x ? kFewOutputs * kFewPitch : 0);
    for (int i = threadIdx.x; i < rows * (kFewDepth / 4); i += kFewOutputs * kFewRows) {
      const int row = i / (kFewDepth / 4), column = i % (kFewDepth / 4);
      if (column >= count) continue;
      const int64_t from = of_x ? min(first_row + row, p.rows.max - 1) * p.x_stride
                                : min(first_output + row, p.outputs - 1) * p.weight_stride;
      CopyAsync16(SharedAddress(to + row * kFewPitch + column * 4),
                  (of_x ? x : weights) + from + k + column * 4);
    }
  };
  const int num_stages = (p.inputs + kFewDepth - 1) / kFewDepth;
  for (int s = 0; s < kFewStages - 1 && s < num_stages; ++s) start(s, false);
  AwaitKernelsBefore();
  const bool has_rows = first_row < *p.rows.num;
  for (int s = 0; s < kFewStages - 1; ++s) {
    if (s < num_stages && has_rows) start(s, true);
    CopyCommit();
  }
  if (!has_rows) return CopyWait<0>();
  const int o = threadIdx.x % 32, r = threadIdx.x / 32;
  float sum = 0;
  for (int s = 0; s < num_stages; ++s) {
    CopyWait<kFewStages - 2>();
    __syncthreads();
    if (s + kFewStages - 1 < num_stages) {
      start(s + kFewStages - 1, false);
      start(s + kFewStages - 1, true);
    }
    CopyCommit();
    const float* stage = stages + s % kFewStages * kFewStage;
    const float4* w4 = reinterpret_cast<const float4*>(stage + o * kFewPitch);
    const float4* x4 = reinterpret_cast<const float4*>(stage + (kFewOutputs + r) * kFewPitch);
    const int count = min(kFewDepth, p.inputs - s * kFewDepth) / 4;
#pragma unroll 8
    for (int i = 0; i < count; ++i) {
      const float4 a = w4[i], b = x4[i];
      sum = fmaf(a.x, b.x, sum);
      sum = fmaf(a.y, b.y, sum);
      sum = fmaf(a.z, b.z, sum);
      sum = fmaf(a.w, b.w, sum);
    }
  }
  if (first_output + o < p.outputs && first_row + r < *p.rows.num) {
    static_cast<float*>(p.out)[(first_row + r) * p.out_stride + first_output + o] = sum;
  }
}

}  // namespace

void SimtMatmul(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  if (!gate_up && TakesFewRows(p)) {
    const dim3 grid(CeilDiv(p.outputs, kFewOutputs), CeilDiv(p.rows.max, kFewRows));
    return LaunchEarly(stream, grid, kFewOutputs * kFewRows, kFewStages * kFewStage * sizeof(float),
                       FewRowsKernel, p);
  }
  const dim3 grid(CeilDiv(p.out_columns, kTile), TilesMax(p, kTile));
  LaunchEarly(stream, grid, kThreads, 0, gate_up ? SimtMatmulKernel<true> : SimtMatmulKernel<false>,
              p);
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

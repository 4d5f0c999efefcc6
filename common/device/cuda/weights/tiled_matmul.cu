// bf16 products of many rows: a block of 8 warps makes a tile of 128 weight rows x 128 rows of x
// over a pipeline of tiles of 64 inputs in shared memory. For gate and up the 128 weight rows are
// 64 of each, so that a thread holds both sums of an output.
#include "common/device/cuda/weights/tensor_matmul.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileWeights = 128, kTileRows = 128;
constexpr int kDepth = 64;  // inputs of a stage, as two planes of 32
constexpr int kStages = 3;
constexpr int kPlane = 128 * 4;              // vectors of 16 bytes: [row][4]
constexpr int kPanel = 2 * kPlane;           // [plane][row][4]
constexpr int kVectors = kPanel / kThreads;  // that a thread copies, of each panel
constexpr size_t kSharedBytes = size_t{kStages} * 2 * kPanel * sizeof(uint4);

// The part of a panel that one thread copies: vector `column` of the rows first_row, + 32, ...
struct CopyPlan {
  const Bf16* rows[kVectors];  // null: zeros
  int first_row, column;

  __device__ CopyPlan() : first_row(threadIdx.x / 8), column(threadIdx.x % 8) {}
  __device__ int row(int i) const { return first_row + i * (kThreads / 8); }
  __device__ int Place(int i) const { return column / 4 * kPlane + row(i) * 4 + column % 4; }
};

// Inputs [k, k + 64) of the plan's rows; those from `end` on are zero.
__device__ void CopyPanel(const CopyPlan& plan, int k, int end, uint4* panel) {
  const int at = k + plan.column * 8;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const bool valid = plan.rows[i] != nullptr && at < end;
    const Bf16* source = valid ? plan.rows[i] + at : nullptr;
    CopyAsync16(panel + plan.Place(i), source, valid);
  }
}

__device__ void GatherPanel(const CopyPlan& plan, int k, int end, uint4* panel) {
  const int at = k + plan.column * 8;
  for (int i = 0; i < kVectors; ++i) {
    const bool valid = plan.rows[i] != nullptr && at < end;
    panel[plan.Place(i)] = valid ? GatherEight(plan.rows[i], at, end) : uint4{0, 0, 0, 0};
  }
}

template <bool kGateUp>
__device__ CopyPlan WeightPlan(const GroupedMatmul& p, const RowTile& tile) {
  CopyPlan plan;
  constexpr int kEach = kGateUp ? kTileWeights / 2 : kTileWeights;
  for (int i = 0; i < kVectors; ++i) {
    const bool is_up = kGateUp && plan.row(i) >= kEach;
    const int output = blockIdx.x * kEach + plan.row(i) % kEach;
    const Bf16* base =
        Weights<Bf16>(p, tile.group, is_up ? p.second_section_bytes : p.section_bytes);
    plan.rows[i] = output < p.outputs ? base + output * p.weight_stride : nullptr;
  }
  return plan;
}

__device__ CopyPlan InputPlan(const GroupedMatmul& p, const RowTile& tile) {
  CopyPlan plan;
  for (int i = 0; i < kVectors; ++i) {
    const bool there = plan.row(i) < tile.count;
    plan.rows[i] =
        there ? static_cast<const Bf16*>(p.x) + SourceRow(p, tile.begin + plan.row(i)) * p.x_stride
              : nullptr;
  }
  return plan;
}

// A warp's part of the tile: 2 x 16 weight rows by 8 x 8 rows of x.
struct WarpTile {
  int weight_row[2], x_row, g, t;

  template <bool kGateUp>
  __device__ static WarpTile Mine() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, m = warp % 4;
    WarpTile w;
    w.weight_row[0] = kGateUp ? m * 16 : m * 32;
    w.weight_row[1] = kGateUp ? 64 + m * 16 : m * 32 + 16;
    w.x_row = warp / 4 * 64;
    w.g = lane / 4;
    w.t = lane % 4;
    return w;
  }
};

__device__ void MultiplyStage(const WarpTile& w, const uint4* weights, const uint4* x,
                              Accumulator (&sums)[2][8]) {
#pragma unroll
  for (int plane = 0; plane < 2; ++plane, weights += kPlane, x += kPlane) {
    uint4 low[2], high[2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      low[m] = weights[(w.weight_row[m] + w.g) * 4 + w.t];
      high[m] = weights[(w.weight_row[m] + w.g + 8) * 4 + w.t];
    }
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const uint4 b = x[(w.x_row + n * 8 + w.g) * 4 + w.t];
      Mma32(sums[0][n], low[0], high[0], b);
      Mma32(sums[1][n], low[1], high[1], b);
    }
  }
}

__device__ void AddRun(Accumulator (&sums)[2][8], Accumulator (&totals)[2][8]) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        totals[m][n].c[c] = __fadd_rn(totals[m][n].c[c], sums[m][n].c[c]);
        sums[m][n].c[c] = 0;
      }
    }
  }
}

template <bool kGateUp>
__device__ void StoreTile(const GroupedMatmul& p, const RowTile& tile, const WarpTile& w,
                          const Accumulator (&totals)[2][8]) {
  const int first_output = blockIdx.x * (kGateUp ? kTileWeights / 2 : kTileWeights);
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int r = w.x_row + n * 8 + 2 * w.t + c % 2, o = w.g + c / 2 * 8;
      if (r >= tile.count) continue;
      if constexpr (kGateUp) {
        StoreResult<Bf16, true>(p, tile.begin + r, first_output + w.weight_row[0] + o,
                                totals[0][n].c[c], totals[1][n].c[c]);
      } else {
        StoreResult<Bf16, false>(p, tile.begin + r, first_output + w.weight_row[0] + o,
                                 totals[0][n].c[c], 0);
        StoreResult<Bf16, false>(p, tile.begin + r, first_output + w.weight_row[1] + o,
                                 totals[1][n].c[c], 0);
      }
    }
  }
}

template <bool kGateUp>
__global__ void __launch_bounds__(kThreads, 1) TiledMatmulKernel(GroupedMatmul p, bool aligned) {
  extern __shared__ uint4 stages[];  // [kStages][weights, x][kPanel]
  const RowTile tile = FindTile(p, blockIdx.y, kTileRows);
  if (tile.count == 0) return;
  if (Weights<Bf16>(p, tile.group, p.section_bytes) == nullptr) return;
  const CopyPlan weight_plan = WeightPlan<kGateUp>(p, tile), x_plan = InputPlan(p, tile);
  const int depth = static_cast<int>(p.weight_stride);
  const int num_stages = (depth + kDepth - 1) / kDepth;
  const auto fill = [&](int stage) {
    uint4* panel = stages + stage % kStages * 2 * kPanel;
    if (stage < num_stages) {
      CopyPanel(weight_plan, stage * kDepth, depth, panel);
      if (aligned) {
        CopyPanel(x_plan, stage * kDepth, p.inputs, panel + kPanel);
      } else {
        GatherPanel(x_plan, stage * kDepth, p.inputs, panel + kPanel);
      }
    }
    CopyCommit();
  };
  const WarpTile w = WarpTile::Mine<kGateUp>();
  Accumulator sums[2][8], totals[2][8];
  const int run_stages = ChunkInputs(p.inputs) / kDepth;
  for (int s = 0; s < kStages - 1; ++s) fill(s);
  for (int s = 0; s < num_stages; ++s) {
    CopyWait<kStages - 2>();
    __syncthreads();
    fill(s + kStages - 1);
    if (s > 0 && s % run_stages == 0) AddRun(sums, totals);
    const uint4* panel = stages + s % kStages * 2 * kPanel;
    MultiplyStage(w, panel, panel + kPanel, sums);
  }
  AddRun(sums, totals);
  StoreTile<kGateUp>(p, tile, w, totals);
}

template <bool kGateUp>
void LaunchTiled(Stream& stream, const GroupedMatmul& p) {
  const dim3 grid(CeilDiv(p.out_columns, kGateUp ? kTileWeights / 2 : kTileWeights),
                  TilesMax(p, kTileRows));
  Launch(stream, grid, kThreads, kSharedBytes, TiledMatmulKernel<kGateUp>, p, HasAlignedRows(p));
}

}  // namespace

void TiledMatmul(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  gate_up ? LaunchTiled<true>(stream, p) : LaunchTiled<false>(stream, p);
}

void TensorMatmul(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  constexpr int kSkinnyRowsMax = 64;
  p.rows.max <= kSkinnyRowsMax ? SkinnyMatmul(stream, p, gate_up) : TiledMatmul(stream, p, gate_up);
}

}  // namespace pregate::cuda

// bf16 products on tensor cores: a block makes a tile of weight rows x rows of x over a pipeline of
// stages of 64 inputs in shared memory. Three sizes: very many rows, by products of warpgroups
// (Hopper); many rows, bound by products too; and few rows, bound by the bytes of the weights. All sum
// 16 inputs after the other. For gate and up each 16 weight rows are 8 of gate and the same 8 of
// up, so that a thread holds both sums of an output.
#include "common/device/cuda/weights/tensor_matmul.cuh"
#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

constexpr int kDepth = 64;            // inputs of a stage
constexpr int kColumns = kDepth / 8;  // vectors of 16 bytes of a row

// A warp makes 16 kWarpWeights weight rows x 8 kWarpRows rows of x.
template <int kWarpWeights_, int kWarpRows_, int kAlongWeights_, int kAlongRows_, int kStages_>
struct TileSize {
  static constexpr int kWarpWeights = kWarpWeights_, kWarpRows = kWarpRows_;
  static constexpr int kAlongWeights = kAlongWeights_;  // warps
  static constexpr int kStages = kStages_;
  static constexpr int kThreads = kAlongWeights_ * kAlongRows_ * 32;
  static constexpr int kWeights = kAlongWeights_ * kWarpWeights_ * 16;
  static constexpr int kRows = kAlongRows_ * kWarpRows_ * 8;
  static constexpr int kStageVectors = (kWeights + kRows) * kColumns;
  static constexpr size_t kSharedBytes = size_t{kStages_} * kStageVectors * sizeof(uint4);
};
using ManyRows = TileSize<2, 8, 4, 2, 3>;  // 128 x 128
using FewRows = TileSize<1, 4, 4, 1, 6>;   // 64 x 32
constexpr int kFewRowsMax = 64;            // of a step
// 128 x 256: two warpgroups with 64 weight rows each.
using GroupRows = TileSize<1, kWgmmaRows / 8, 8, 1, 4>;
constexpr int kGroupRowsMin = 512;  // of a step

// Vector `column` of a row in shared memory: eight rows of one column lie in different banks.
__device__ int Place(int row, int column) { return row * kColumns + (column ^ (row & 7)); }

// The part of a panel of kPanelRows rows that one thread copies.
template <int kPanelRows, int kThreads>
struct CopyPlan {
  static constexpr int kVectors = kPanelRows * kColumns / kThreads;
  const Bf16* rows[kVectors];  // null: zeros
  int first_row, column;

  __device__ CopyPlan() : first_row(threadIdx.x / kColumns), column(threadIdx.x % kColumns) {}
  __device__ int row(int i) const { return first_row + i * (kThreads / kColumns); }

  // Inputs [k, k + 64) of the rows; those from `end` on are zero.
  __device__ void Copy(int k, int end, uint4* panel) const {
    const int at = k + column * 8;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const bool valid = rows[i] != nullptr && at < end;
      CopyAsync16(SharedAddress(panel + Place(row(i), column)), valid ? rows[i] + at : nullptr,
                  valid);
    }
  }
  // The same of rows at any address.
  __device__ void Gather(int k, int end, uint4* panel) const {
    const int at = k + column * 8;
    for (int i = 0; i < kVectors; ++i) {
      const bool valid = rows[i] != nullptr && at < end;
      panel[Place(row(i), column)] = valid ? GatherEight(rows[i], at, end) : uint4{0, 0, 0, 0};
    }
  }
};

template <class Size, bool kGateUp>
__device__ auto WeightPlan(const GroupedMatmul& p, const RowTile& tile) {
  CopyPlan<Size::kWeights, Size::kThreads> plan;
  for (int i = 0; i < plan.kVectors; ++i) {
    const int row = plan.row(i);
    const bool is_up = kGateUp && row % 16 >= 8;
    const int output = kGateUp ? blockIdx.x * (Size::kWeights / 2) + row / 16 * 8 + row % 8
                               : blockIdx.x * Size::kWeights + row;
    const Bf16* base =
        Weights<Bf16>(p, tile.group, is_up ? p.second_section_bytes : p.section_bytes);
    plan.rows[i] = output < p.outputs ? base + output * p.weight_stride : nullptr;
  }
  return plan;
}

template <class Size>
__device__ auto InputPlan(const GroupedMatmul& p, const RowTile& tile) {
  CopyPlan<Size::kRows, Size::kThreads> plan;
  for (int i = 0; i < plan.kVectors; ++i) {
    const bool there = plan.row(i) < tile.count;
    plan.rows[i] =
        there ? static_cast<const Bf16*>(p.x) + SourceRow(p, tile.begin + plan.row(i)) * p.x_stride
              : nullptr;
  }
  return plan;
}

// A warp's part of the tile.
template <class Size>
struct WarpTile {
  using Sums = Accumulator[Size::kWarpWeights][Size::kWarpRows];
  int weight_row, x_row, lane;

  __device__ WarpTile()
      : weight_row(threadIdx.x / 32 % Size::kAlongWeights * Size::kWarpWeights * 16),
        x_row(threadIdx.x / 32 / Size::kAlongWeights * Size::kWarpRows * 8),
        lane(threadIdx.x % 32) {}

  __device__ void MultiplyStage(const uint4* weights, const uint4* x, Sums& sums) const {
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) {
      uint32_t a[Size::kWarpWeights][4];
#pragma unroll
      for (int m = 0; m < Size::kWarpWeights; ++m) {
        LoadMatrices(
            SharedAddress(weights + Place(weight_row + m * 16 + lane % 16, 2 * k + lane / 16)),
            a[m]);
      }
#pragma unroll
      for (int n = 0; n < Size::kWarpRows; n += 2) {
        uint32_t b[4];
        const int row = x_row + n * 8 + lane / 16 * 8 + lane % 8;
        LoadMatrices(SharedAddress(x + Place(row, 2 * k + lane / 8 % 2)), b);
#pragma unroll
        for (int m = 0; m < Size::kWarpWeights; ++m) {
          Mma(sums[m][n], a[m][0], a[m][1], a[m][2], a[m][3], b[0], b[1]);
          Mma(sums[m][n + 1], a[m][0], a[m][1], a[m][2], a[m][3], b[2], b[3]);
        }
      }
    }
  }

  // sum(m, n): the four of an Accumulator.
  template <bool kGateUp, class Sum>
  __device__ void Store(const GroupedMatmul& p, const RowTile& tile, const Sum& sum) const {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int m = 0; m < Size::kWarpWeights; ++m) {
      const int first = weight_row + m * 16;
#pragma unroll
      for (int n = 0; n < Size::kWarpRows; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const int r = x_row + n * 8 + 2 * t + c;
          if (r >= tile.count) continue;
          const float low = sum(m, n)[c], high = sum(m, n)[2 + c];
          if constexpr (kGateUp) {
            StoreResult<Bf16, true>(p, tile.begin + r,
                                    blockIdx.x * (Size::kWeights / 2) + first / 2 + g, low, high);
          } else {
            const int o = blockIdx.x * Size::kWeights + first + g;
            StoreResult<Bf16, false>(p, tile.begin + r, o, low, 0);
            StoreResult<Bf16, false>(p, tile.begin + r, o + 8, high, 0);
          }
        }
      }
    }
  }
};

// Copies of a tile's stages into the pipeline.
template <class Size, bool kGateUp>
class TileCopies {
 public:
  __device__ TileCopies(const GroupedMatmul& p, const RowTile& tile, bool aligned, uint4* stages)
      : weights_(WeightPlan<Size, kGateUp>(p, tile)),
        x_(InputPlan<Size>(p, tile)),
        stages_(stages),
        depth_(static_cast<int>(p.weight_stride)),
        inputs_(p.inputs),
        aligned_(aligned) {}

  __device__ int num_stages() const { return (depth_ + kDepth - 1) / kDepth; }
  __device__ uint4* weights(int stage) const {
    return stages_ + stage % Size::kStages * Size::kStageVectors;
  }
  __device__ uint4* x(int stage) const { return weights(stage) + Size::kWeights * kColumns; }
  // Nothing beyond the last stage.
  __device__ void Start(int stage) const {
    if (stage < num_stages()) {
      weights_.Copy(stage * kDepth, depth_, weights(stage));
      aligned_ ? x_.Copy(stage * kDepth, inputs_, x(stage))
               : x_.Gather(stage * kDepth, inputs_, x(stage));
    }
    CopyCommit();
  }

 private:
  CopyPlan<Size::kWeights, Size::kThreads> weights_;
  CopyPlan<Size::kRows, Size::kThreads> x_;
  uint4* const stages_;
  const int depth_, inputs_;
  const bool aligned_;
};

template <class Size, bool kGateUp>
__global__ void __launch_bounds__(Size::kThreads) TiledMatmulKernel(GroupedMatmul p, bool aligned) {
  extern __shared__ uint4 stages[];  // [kStages][weights, x]
  const RowTile tile = FindTile(p, blockIdx.y, Size::kRows);
  if (tile.count == 0) return;
  if (Weights<Bf16>(p, tile.group, p.section_bytes) == nullptr) return;
  const TileCopies<Size, kGateUp> copies(p, tile, aligned, stages);
  const WarpTile<Size> warp;
  typename WarpTile<Size>::Sums sums;
  for (int s = 0; s < Size::kStages - 1; ++s) copies.Start(s);
  for (int s = 0; s < copies.num_stages(); ++s) {
    CopyWait<Size::kStages - 2>();
    __syncthreads();
    copies.Start(s + Size::kStages - 1);
    warp.MultiplyStage(copies.weights(s), copies.x(s), sums);
  }
  warp.template Store<kGateUp>(p, tile, [&](int m, int n) { return sums[m][n].c; });
}

// The same by products of warpgroups: those of a stage run while the next but three is copied.
template <bool kGateUp>
__global__ void __launch_bounds__(GroupRows::kThreads, 1)
    GroupMatmulKernel(GroupedMatmul p, bool aligned) {
  using Size = GroupRows;
  extern __shared__ __align__(1024) uint4 stages[];
  const RowTile tile = FindTile(p, blockIdx.y, Size::kRows);
  if (tile.count == 0) return;
  if (Weights<Bf16>(p, tile.group, p.section_bytes) == nullptr) return;
  const TileCopies<Size, kGateUp> copies(p, tile, aligned, stages);
  float sums[kWgmmaRows / 2];
#pragma unroll
  for (float& sum : sums) sum = 0;
  for (int s = 0; s < Size::kStages - 1; ++s) copies.Start(s);
  const int group = threadIdx.x / 128;
  for (int s = 0; s < copies.num_stages(); ++s) {
    CopyWait<Size::kStages - 2>();
    WgmmaSeesShared();
    __syncthreads();
    const uint64_t weights = WgmmaTile(SharedAddress(copies.weights(s)) + group * 64 * kDepth * 2);
    const uint64_t x = WgmmaTile(SharedAddress(copies.x(s)));
    WgmmaBegin();
#pragma unroll
    for (int k = 0; k < kDepth / 16; ++k) Wgmma(sums, weights + 2 * k, x + 2 * k);
    WgmmaCommit();
    WgmmaWait<1>();  // the stage before has been read
    __syncthreads();
    copies.Start(s + Size::kStages - 1);
  }
  WgmmaWait<0>();
  WarpTile<Size>().template Store<kGateUp>(p, tile, [&](int, int n) { return sums + 4 * n; });
}

template <class Size, bool kGateUp>
void LaunchTiles(Stream& stream, const GroupedMatmul& p, void (*kernel)(GroupedMatmul, bool)) {
  const dim3 grid(CeilDiv(p.out_columns, kGateUp ? Size::kWeights / 2 : Size::kWeights),
                  TilesMax(p, Size::kRows));
  Launch(stream, grid, Size::kThreads, Size::kSharedBytes, kernel, p, HasAlignedRows(p));
}

// Whether the card runs what was compiled for Hopper; asked once.
bool HasWarpgroups() {
  static const bool has = [] {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, GroupMatmulKernel<true>) == cudaSuccess &&
           attributes.binaryVersion == 90 && attributes.ptxVersion == 90;
  }();
  return has;
}

template <bool kGateUp>
void RunTensorMatmul(Stream& stream, const GroupedMatmul& p) {
  if (p.rows.max >= kGroupRowsMin && HasWarpgroups()) {
    LaunchTiles<GroupRows, kGateUp>(stream, p, GroupMatmulKernel<kGateUp>);
  } else if (p.rows.max <= kFewRowsMax) {
    LaunchTiles<FewRows, kGateUp>(stream, p, TiledMatmulKernel<FewRows, kGateUp>);
  } else {
    LaunchTiles<ManyRows, kGateUp>(stream, p, TiledMatmulKernel<ManyRows, kGateUp>);
  }
}

}  // namespace

void TensorMatmul(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  gate_up ? RunTensorMatmul<true>(stream, p) : RunTensorMatmul<false>(stream, p);
}

}  // namespace pregate::cuda

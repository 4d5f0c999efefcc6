// bf16 products on tensor cores, where there are no warpgroups (ring_matmul.cu): a block makes a tile of
// weight rows x rows of x over a pipeline of stages of 64 inputs in shared memory. Two sizes: many
// rows, bound by products; and few rows, bound by the bytes of the weights.
#include "common/device/cuda/weights/tensor_matmul.cuh"
#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

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

  template <bool kGateUp>
  __device__ void Store(const GroupedMatmul& p, const RowTile& tile, const Sums& sums) const {
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int m = 0; m < Size::kWarpWeights; ++m) {
      const int first =
          blockIdx.x * OutputsOf<kGateUp>(Size::kWeights) + OutputsOf<kGateUp>(weight_row + m * 16);
#pragma unroll
      for (int n = 0; n < Size::kWarpRows; ++n) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          StoreSums<kGateUp>(p, tile, x_row + n * 8 + 2 * t + c, first, g, sums[m][n].c[c],
                             sums[m][n].c[2 + c]);
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
      : stages_(stages),
        depth_(static_cast<int>(p.weight_stride)),
        inputs_(p.inputs),
        aligned_(aligned) {
    const int first = blockIdx.x * OutputsOf<kGateUp>(Size::kWeights);
    for (int i = 0; i < weights_.kVectors; ++i) {
      weights_.rows[i] = WeightRow<kGateUp>(p, tile.group, first, weights_.row(i));
    }
    for (int i = 0; i < x_.kVectors; ++i) x_.rows[i] = InputRow(p, tile, x_.row(i));
  }

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
  warp.template Store<kGateUp>(p, tile, sums);
}

template <class Size>
void RunTiles(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  const int outputs = gate_up ? OutputsOf<true>(Size::kWeights) : Size::kWeights;
  const dim3 grid(CeilDiv(p.out_columns, outputs), TilesMax(p, Size::kRows));
  Launch(stream, grid, Size::kThreads, Size::kSharedBytes,
         gate_up ? TiledMatmulKernel<Size, true> : TiledMatmulKernel<Size, false>, p,
         HasAlignedRows(p));
}
void RunTiles(Stream& stream, const GroupedMatmul& p, bool gate_up) {
  p.rows.max <= kFewRowsMax ? RunTiles<FewRows>(stream, p, gate_up)
                            : RunTiles<ManyRows>(stream, p, gate_up);
}

}  // namespace

void TensorMatmul(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also, bool gate_up) {
  if (HasWarpgroups() && HasAlignedRows(p) && (also == nullptr || HasAlignedRows(*also))) {
    return RingMatmul(stream, p, also, gate_up);
  }
  RunTiles(stream, p, gate_up);
  if (also != nullptr) RunTiles(stream, *also, gate_up);
}

}  // namespace pregate::cuda

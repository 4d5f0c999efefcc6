// bf16 products by warpgroups (Hopper): a block makes a tile of weight rows x rows of x. Weights and x come
// by a ring, 64 inputs a slot, which warps of their own keep full while the others multiply. Tiles for
// few rows have long rings, of several blocks a multiprocessor, since the bytes of weights bound them;
// the tile for many rows is bound by products.
#include <algorithm>

#include "common/device/cuda/stream_ring.cuh"
#include "common/device/cuda/weights/tensor_matmul.cuh"
#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

template <int kGroups_, int kRows_, int kSlots_, int kFillers_, int kBlocks_>
struct RingTile {
  static constexpr int kGroups = kGroups_;  // warpgroups, of 64 weight rows each
  static constexpr int kWeights = kGroups * 64, kRows = kRows_;
  static constexpr int kSlots = kSlots_, kFillers = kFillers_;
  static constexpr int kWorkers = kGroups * 128, kThreads = kWorkers + kFillers;
  static constexpr int kWeightBytes = kWeights * kDepth * 2;
  static constexpr int kTileBytes = kWeightBytes + kRows * kDepth * 2;
  static constexpr int kBytes = kSlots * kTileBytes;
  static constexpr int kBlocks = kBlocks_;  // a multiprocessor
};
using Rows32 = RingTile<1, 32, 6, 64, 3>;
using Rows64 = RingTile<1, 64, 6, 64, 2>;
using Rows128 = RingTile<1, 128, 4, 64, 2>;
using ManyRows = RingTile<2, 256, 4, 128, 1>;
constexpr int kManyRows = 192;  // of a group

// One or two, which make no use of each other's results.
struct Problems {
  GroupedMatmul each[2];
  int tiles_of_first;  // of rows
};

// A tile's slots: weights, then x, as products of warpgroups take them.
template <class Size, bool kGateUp>
class TileSource {
 public:
  __device__ TileSource(const GroupedMatmul& p, const RowTile& tile, int first_output)
      : column_(Thread() % kColumns),
        depth_(static_cast<int>(p.weight_stride)),
        inputs_(p.inputs) {
    for (int i = 0; i < kWeightVectors; ++i) {
      weights_[i] = WeightRow<kGateUp>(p, tile.group, first_output, Row(i));
    }
    for (int i = 0; i < kInputVectors; ++i) x_[i] = InputRow(p, tile, Row(i));
  }

  template <class Context>
  __device__ void Advance(const Context&) {}
  template <class Context>
  __device__ bool done(const Context&) const {
    return k_ >= depth_;
  }
  template <class Context>
  __device__ bool Issue(const Context&, uint32_t slot) {
    const int at = k_ + column_ * 8;
#pragma unroll
    for (int i = 0; i < kWeightVectors; ++i) {
      const bool valid = weights_[i] != nullptr && at < depth_;
      CopyAsync16Ahead(slot + Place(Row(i)), valid ? weights_[i] + at : nullptr, valid);
    }
    // Rows that are not there may be anything: each has sums of its own.
#pragma unroll
    for (int i = 0; i < kInputVectors; ++i) {
      if (x_[i] == nullptr) continue;
      const bool valid = at < inputs_;
      CopyAsync16(slot + Size::kWeightBytes + Place(Row(i)), valid ? x_[i] + at : x_[i], valid);
    }
    k_ += kDepth;
    return false;
  }

 private:
  static constexpr int kWeightVectors = Size::kWeights * kColumns / Size::kFillers;
  static constexpr int kInputVectors = Size::kRows * kColumns / Size::kFillers;

  __device__ static int Thread() { return static_cast<int>(threadIdx.x) - Size::kWorkers; }
  __device__ static int Row(int i) { return (i * Size::kFillers + Thread()) / kColumns; }
  __device__ uint32_t Place(int row) const { return row * 128 + ((column_ ^ row) & 7) * 16; }

  const Bf16 *weights_[kWeightVectors], *x_[kInputVectors];
  const int column_, depth_, inputs_;
  int k_ = 0;
};

template <class Size, bool kGateUp>
__global__ void __launch_bounds__(Size::kThreads, Size::kBlocks)
    RingMatmulKernel(const __grid_constant__ Problems problems) {
  extern __shared__ __align__(1024) unsigned char slots[];
  __shared__ RingBarriers<Size::kSlots> barriers;
  const bool first = blockIdx.y < problems.tiles_of_first;
  const GroupedMatmul& p = problems.each[first ? 0 : 1];
  const int first_output = blockIdx.x * OutputsOf<kGateUp>(Size::kWeights);
  if (first_output >= p.out_columns) return;
  const RowTile tile =
      FindTile(p, blockIdx.y - (first ? 0 : problems.tiles_of_first), Size::kRows);
  if (tile.count == 0 || Weights<Bf16>(p, tile.group, p.section_bytes) == nullptr) return;
  if (threadIdx.x == 0) barriers.Init(Size::kFillers, Size::kWorkers / 32);
  __syncthreads();
  const int warp = threadIdx.x / 32, group = warp / 4;
  if (group == Size::kGroups) {
    using Source = TileSource<Size, kGateUp>;
    RingFiller<Source, Size::kSlots, Size::kTileBytes>(slots, barriers,
                                                       Source(p, tile, first_output))
        .Run(0);
    CopyWait<0>();
    return;
  }
  RingReader<Size::kSlots, Size::kTileBytes> ring(slots, barriers);
  float sums[Size::kRows / 2];
  const int depth = static_cast<int>(p.weight_stride);
  uint32_t before = 0;
#pragma unroll 1
  for (int k = 0; k < depth; k += kDepth) {
    const uint32_t slot = ring.Await();
    const uint64_t weights = WgmmaTile(slot + group * 64 * kDepth * 2);
    const uint64_t x = WgmmaTile(slot + Size::kWeightBytes);
    WgmmaSeesShared();
    WgmmaBegin();
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i) {
      Wgmma<Size::kRows>::Add(sums, weights + 2 * i, x + 2 * i, k + i > 0);
    }
    WgmmaCommit();
    WgmmaWait<1>();  // the slot before has been read
    if (k > 0) ring.Free(before);
    before = ring.Leave();
  }
  WgmmaWait<0>();
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int first_of_warp = first_output + OutputsOf<kGateUp>(warp * 16);
#pragma unroll
  for (int n = 0; n < Size::kRows / 8; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      StoreSums<kGateUp>(p, tile, n * 8 + 2 * t + c, first_of_warp, g, sums[4 * n + c],
                         sums[4 * n + 2 + c]);
    }
  }
}

template <class Size>
void Run(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also, bool gate_up) {
  const int outputs = gate_up ? OutputsOf<true>(Size::kWeights) : Size::kWeights;
  Problems problems = {{p, also != nullptr ? *also : p}, TilesMax(p, Size::kRows)};
  int columns = p.out_columns, tiles = problems.tiles_of_first;
  if (also != nullptr) {
    columns = std::max(columns, also->out_columns);
    tiles += TilesMax(*also, Size::kRows);
  }
  Launch(stream, dim3(CeilDiv(columns, outputs), tiles), Size::kThreads, Size::kBytes,
         gate_up ? RingMatmulKernel<Size, true> : RingMatmulKernel<Size, false>, problems);
}

}  // namespace

void RingMatmul(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also, bool gate_up) {
  const int rows = p.rows.max, groups = std::max(p.num_groups, also != nullptr ? also->num_groups : 1);
  if (rows <= 32) return Run<Rows32>(stream, p, also, gate_up);
  if (rows <= 64) return Run<Rows64>(stream, p, also, gate_up);
  if (rows < kManyRows * groups) return Run<Rows128>(stream, p, also, gate_up);
  Run<ManyRows>(stream, p, also, gate_up);
}

}  // namespace pregate::cuda

// bf16 products by warpgroups (Hopper): a block makes a tile of weight rows x rows of x. Weights and x come
// by a ring, 64 inputs a slot, which warps of their own keep full while the others multiply. Rings are
// long, of several blocks a multiprocessor, since the bytes of weights bound them. Many rows are
// cluster_matmul.cu's.
#include <algorithm>

#include "common/device/cuda/paged_kv.cuh"
#include "common/device/cuda/rotary.cuh"
#include "common/device/cuda/stream_ring.cuh"
#include "common/device/cuda/weights/tensor_matmul.cuh"
#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

template <int kRows_, int kSlots_, int kFillers_, int kBlocks_>
struct RingTile {
  static constexpr int kWeights = 64, kRows = kRows_;
  static constexpr int kSlots = kSlots_, kFillers = kFillers_;
  static constexpr int kWorkers = 128, kThreads = kWorkers + kFillers;
  static constexpr int kWeightBytes = kWeights * kDepth * 2;
  static constexpr int kTileBytes = kWeightBytes + kRows * kDepth * 2;
  static constexpr int kBytes = kSlots * kTileBytes;
  static constexpr int kBlocks = kBlocks_;  // a multiprocessor
};
// Of up to 32, 64 and 128 rows: as many slots as fit so many blocks a multiprocessor.
template <int kBlocks>
using Rows32 = RingTile<32, 18 / kBlocks, 128, kBlocks>;
template <int kBlocks>
using Rows64 = RingTile<64, 13 / kBlocks, 128, kBlocks>;
template <int kBlocks>
using Rows128 = RingTile<128, 9 / kBlocks, 128, kBlocks>;
constexpr int kManyRows = 192;  // of a group: clusters are faster from here on

// What becomes of the sums.
enum class Result {
  kSums,   // out
  kMid,    // of gate and up: out
  kHeads,  // of q, k and v: RotateAndStore
};
struct HeadsOut {
  PagedTokens tokens;
  Heads heads;
  Rotation rotation;
  PagedKv kv;
  float* q;
};

// One or two, which make no use of each other's results.
struct Problems {
  GroupedMatmul each[2];
  int tiles_of_first;  // of rows
  HeadsOut heads;
  WaitLimit waits;
};

// A tile's weight rows begin at this output.
template <class Size, Result kResult>
__device__ int FirstOutput() {
  return blockIdx.x * OutputsOf<kResult == Result::kMid>(Size::kWeights);
}
// Row `row` of a tile of weights; null beyond the outputs.
template <class Size, Result kResult>
__device__ const Bf16* TileWeightRow(const Problems& problems, const GroupedMatmul& p, int group,
                                     int row) {
  const int first = FirstOutput<Size, kResult>();
  if constexpr (kResult == Result::kHeads) {
    const Heads& heads = problems.heads.heads;
    if (first + row >= p.outputs) return nullptr;
    const HeadStrip strip(heads, problems.heads.rotation.dims > 0, (first + row) / 16);
    const int output = strip.head * heads.head_dim + strip.channel + row % 8 +
                       (row % 16 >= 8 ? strip.to_partner(heads) : 0);
    return Weights<Bf16>(p, group, 0) + output * p.weight_stride;
  } else {
    return WeightRow<kResult == Result::kMid>(p, group, first, row);
  }
}

// A tile's slots: weights, then x, as products of warpgroups take them.
// Weights of the first slots are on their way before the kernels before are done.
template <class Size, Result kResult>
class TileSource {
 public:
  __device__ TileSource(const Problems& problems, const GroupedMatmul& p, const RowTile& tile,
                        uint32_t slots)
      : column_(Thread() % kColumns), depth_(static_cast<int>(p.weight_stride)), inputs_(p.inputs) {
    for (int i = 0; i < kWeightVectors; ++i) {
      weights_[i] = TileWeightRow<Size, kResult>(problems, p, tile.group, Row(i));
    }
    for (int s = 0; s < Size::kSlots && s * kDepth < depth_; ++s) {
      IssueWeights(slots + s * Size::kTileBytes, s * kDepth);
    }
    AwaitKernelsBefore();
    for (int i = 0; i < kInputVectors; ++i) x_[i] = InputRow(p, tile, Row(i));
  }

  // RingFiller's context is nothing here: there is one tile.
  __device__ void Advance(int) {}
  __device__ bool done(int) const { return k_ >= depth_; }
  __device__ bool Issue(int, uint32_t slot) {
    if (k_ >= Size::kSlots * kDepth) IssueWeights(slot, k_);
    const int at = k_ + column_ * 8;
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

  __device__ void IssueWeights(uint32_t slot, int k) const {
    const int at = k + column_ * 8;
#pragma unroll
    for (int i = 0; i < kWeightVectors; ++i) {
      const bool valid = weights_[i] != nullptr && at < depth_;
      CopyAsync16Ahead(slot + Place(Row(i)), valid ? weights_[i] + at : nullptr, valid);
    }
  }
  __device__ static int Thread() { return static_cast<int>(threadIdx.x) - Size::kWorkers; }
  __device__ static int Row(int i) { return (i * Size::kFillers + Thread()) / kColumns; }
  __device__ uint32_t Place(int row) const { return row * 128 + ((column_ ^ row) & 7) * 16; }

  const Bf16 *weights_[kWeightVectors], *x_[kInputVectors];
  const int column_, depth_, inputs_;
  int k_ = 0;
};

// Sums of the 16 weight rows of a tile from first_row on, of which g and g + 8 are low and high, with row
// r of the tile.
template <class Size, Result kResult>
__device__ void StoreTileSums(const Problems& problems, const GroupedMatmul& p, const RowTile& tile,
                              int r, int first_row, int g, float low, float high) {
  const int first = FirstOutput<Size, kResult>();
  if constexpr (kResult == Result::kHeads) {
    const HeadsOut& to = problems.heads;
    if (r >= tile.count || first + first_row >= p.outputs) return;
    const int row = tile.begin + r, position = to.tokens.positions[row];
    const HeadStrip strip(to.heads, to.rotation.dims > 0, (first + first_row) / 16);
    const int channel = strip.channel + g, partner = channel + strip.to_partner(to.heads);
    if (strip.rotated) {
      const Turn turn(position, to.rotation.inv_freq[channel], to.rotation.scale);
      const float a = low, b = high;
      low = turn.First(a, b);
      high = turn.Second(a, b);
    }
    if (strip.head < to.heads.num_heads) {
      float* q = to.q + (int64_t{row} * to.heads.num_heads + strip.head) * to.heads.head_dim;
      q[channel] = low;
      q[partner] = high;
      return;
    }
    const KvBlocks<Bf16> blocks(to.kv, to.heads, to.tokens, row);
    const int kv_head = strip.head - to.heads.num_heads, num = to.heads.num_kv_heads;
    Bf16* out =
        kv_head < num ? blocks.key(kv_head, position) : blocks.value(kv_head - num, position);
    out[channel] = FromFloat<Bf16>(low);
    out[partner] = FromFloat<Bf16>(high);
  } else {
    constexpr bool kGateUp = kResult == Result::kMid;
    StoreSums<kGateUp>(p, tile, r, first + OutputsOf<kGateUp>(first_row), g, low, high);
  }
}

template <class Size, Result kResult>
__global__ void __launch_bounds__(Size::kThreads, Size::kBlocks)
    RingMatmulKernel(const __grid_constant__ Problems problems) {
  extern __shared__ __align__(1024) unsigned char slots[];
  __shared__ RingBarriers<Size::kSlots> barriers;
  const bool first = blockIdx.y < problems.tiles_of_first;
  const GroupedMatmul& p = problems.each[first ? 0 : 1];
  const RowTile tile = FindTile(p, blockIdx.y - (first ? 0 : problems.tiles_of_first), Size::kRows);
  if (FirstOutput<Size, kResult>() >= p.out_columns || tile.count == 0 ||
      Weights<Bf16>(p, tile.group, p.section_bytes) == nullptr) {
    AwaitKernelsBefore();  // who waits for this one waits for those too
    return;
  }
  if (threadIdx.x == 0) barriers.Init(problems.waits, Size::kFillers, Size::kWorkers / 32);
  __syncthreads();
  const int warp = UniformInWarp(threadIdx.x / 32);
  if (warp >= Size::kWorkers / 32) {
    using Source = TileSource<Size, kResult>;
    RingFiller<Source, Size::kSlots, Size::kTileBytes>(
        slots, barriers, Source(problems, p, tile, SharedAddress(slots)))
        .Run(0);
    return;  // the workers await every slot
  }
  AwaitKernelsBefore();
  RingReader<Size::kSlots, Size::kTileBytes> ring(slots, barriers);
  float sums[Size::kRows / 2];
  const int depth = static_cast<int>(p.weight_stride);
  uint32_t before = 0;
#pragma unroll 1
  for (int k = 0; k < depth; k += kDepth) {
    const uint32_t slot = ring.Await();
    const WgmmaTile weights = WgmmaTile::Rows(slot);
    const WgmmaTile x = WgmmaTile::Rows(slot + Size::kWeightBytes);
    WgmmaSeesShared();
    WgmmaBegin();
    // Sums that began as zeros would be moved while products run, and ptxas would have each wait.
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i) {
      Wgmma<Size::kRows>::Add(sums, weights.At(32 * i), x.At(32 * i), k + i > 0);
    }
    WgmmaCommit();
    WgmmaWait<1>();  // the slot before has been read
    if (k > 0) ring.Free(before);
    before = ring.Leave();
  }
  WgmmaWait<0>();
  if (depth == 0) {
    for (float& sum : sums) sum = 0;
  }
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < Size::kRows / 8; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      StoreTileSums<Size, kResult>(problems, p, tile, n * 8 + 2 * t + c, warp * 16, g,
                                   sums[4 * n + c], sums[4 * n + 2 + c]);
    }
  }
}

template <class Size, Result kResult>
void Run(Stream& stream, Problems problems, bool both) {
  const GroupedMatmul &p = problems.each[0], &also = problems.each[1];
  const int outputs = OutputsOf<kResult == Result::kMid>(Size::kWeights);
  problems.tiles_of_first = TilesMax(p, Size::kRows);
  problems.waits = stream.waits(WaitingKernel::kRingMatmul);
  int columns = p.out_columns, tiles = problems.tiles_of_first;
  if (both) {
    columns = std::max(columns, also.out_columns);
    tiles += TilesMax(also, Size::kRows);
  }
  LaunchEarly(stream, dim3(CeilDiv(columns, outputs), tiles), Size::kThreads, Size::kBytes,
              RingMatmulKernel<Size, kResult>, problems);
}

// How many of its blocks a multiprocessor should hold: all at once, if they can.
template <template <int> class Size, Result kResult>
void RunFew(Stream& stream, const Problems& problems, bool both) {
  using Any = Size<1>;
  int blocks = 0;
  for (int i = 0; i < (both ? 2 : 1); ++i) {
    const GroupedMatmul& p = problems.each[i];
    const int tiles = CeilDiv(p.rows.max, Any::kRows);
    const int likely = p.offsets == nullptr ? tiles : std::min(p.num_groups, p.rows.max);
    blocks += CeilDiv(p.out_columns, OutputsOf<kResult == Result::kMid>(Any::kWeights)) *
              std::max(likely, tiles);
  }
  const int each = CeilDiv(blocks, stream.multiprocessors);
  if (each == 1) return Run<Size<1>, kResult>(stream, problems, both);
  if constexpr (Any::kSlots / 3 >= 6) {
    if (each > 4) return Run<Size<3>, kResult>(stream, problems, both);
    if (each > 2) return Run<Size<4>, kResult>(stream, problems, both);
  }
  Run<Size<2>, kResult>(stream, problems, both);
}

template <Result kResult>
void RunSize(Stream& stream, const Problems& problems, bool both) {
  const int rows = problems.each[0].rows.max;
  const int groups = std::max(problems.each[0].num_groups, problems.each[both].num_groups);
  if (rows <= 32) return RunFew<Rows32, kResult>(stream, problems, both);
  if (rows <= 64) return RunFew<Rows64, kResult>(stream, problems, both);
  if (rows >= kManyRows * groups &&
      ClusterMatmul(stream, problems.each[0], both ? &problems.each[1] : nullptr,
                    kResult == Result::kMid)) {
    return;
  }
  RunFew<Rows128, kResult>(stream, problems, both);
}

}  // namespace

void RingMatmul(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also, bool gate_up) {
  Problems problems = {};
  problems.each[0] = p;
  if (also != nullptr) problems.each[1] = *also;
  gate_up ? RunSize<Result::kMid>(stream, problems, also != nullptr)
          : RunSize<Result::kSums>(stream, problems, also != nullptr);
}

bool TakesLinearHeads(const GroupedMatmul& p) {
  return HasWarpgroups() && p.bf16 && HasAlignedRows(p) && p.rows.max <= Rows64<1>::kRows;
}

void LinearHeads(Stream& stream, const GroupedMatmul& p, const PagedTokens& tokens,
                 const Heads& heads, const Rotation& rotation, const PagedKv& kv, float* q_out) {
  Problems problems = {};
  problems.each[0] = p;
  problems.heads = {tokens, heads, rotation, kv, q_out};
  p.rows.max <= Rows32<1>::kRows ? RunFew<Rows32, Result::kHeads>(stream, problems, false)
                                 : RunFew<Rows64, Result::kHeads>(stream, problems, false);
}

}  // namespace pregate::cuda

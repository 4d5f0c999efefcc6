// bf16 products of many rows (Hopper), bound by tensor cores. The two blocks of a cluster make a tile of
// 256 weight rows x up to 256 rows of x, half of the rows each: each copies half of the weights, to
// both of them at once, since L2 could not feed both alone. A block is two warpgroups that multiply,
// 128 weight rows each, and a third that fills the ring of slots, 64 inputs each, tile after tile:
// it reads the next tile while results of the last one are stored.
#include <algorithm>

#include "common/device/cuda/stream_ring.cuh"
#include "common/device/cuda/tensor_map.cuh"
#include "common/device/cuda/weights/tensor_matmul.cuh"
#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

constexpr int kTileWeights = 256, kBlockRows = 128, kTileRows = 2 * kBlockRows;
constexpr int kSlots = 4;
constexpr int kWeightBytes = kTileWeights * kDepth * 2, kHalfBytes = kWeightBytes / 2;
constexpr int kBytes = kWeightBytes + kBlockRows * kDepth * 2;  // of a slot
constexpr int kWorkers = 256, kFillers = 128;
constexpr int kWorkerRegisters = 224, kFillerRegisters = 56;  // of the 168 that each begins with
constexpr int kGroupsMax = 64;
// Weights are addressed from far before the first of them, in steps that units are aligned to.
constexpr int64_t kUnitStep = 256, kReach = int64_t{1} << 30;

// One or two, which make no use of each other's results.
struct Problems {
  GroupedMatmul each[2];
  int columns[2];      // tiles side by side
  int items[2];        // tiles in all; those of rows that are not there have no work
  const char* origin;  // coordinate 0 of weights
  WaitLimit waits;
};
struct WeightMaps {
  CUtensorMap each[2];
};

__device__ inline int BlockInCluster() {
  int rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void SyncCluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::
                   : "memory");
}
// Starts the copy of a box of five dimensions to the same place in both blocks.
__device__ inline void CopyBoxToBoth(uint32_t shared, const CUtensorMap& map, int a, int d, int e,
                                     uint32_t barrier) {
#ifdef PREGATE_WGMMA
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %3, %4, %5}], [%6], %7;" ::"r"(shared),
      "l"(&map), "r"(a), "r"(0), "r"(d), "r"(e), "r"(barrier), "h"(static_cast<uint16_t>(3))
      : "memory");
#endif
}
// The warp no longer reads the slot, which both blocks fill.
__device__ inline void FreeInBoth(uint32_t barrier) {
  __syncwarp();
  if (threadIdx.x % 32 < 2) {
    asm volatile(
        "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1; "
        "mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(barrier),
        "r"(threadIdx.x % 32)
        : "memory");
  }
}

// A block's part of an item; the same in all lanes of a warp.
struct Item {
  int problem;
  RowTile rows;      // of this block
  int first_output;  // of the tile
  bool has_work;     // of the cluster
};

// Which item is what. Where groups begin is in shared memory, as every warp asks before each item.
using Offsets = int[2][kGroupsMax + 1];
class Schedule {
 public:
  __device__ Schedule(const Problems& problems, Offsets& offsets)
      : problems_(problems), offsets_(offsets) {}

  // By all threads; the block synchronizes afterwards.
  __device__ void ReadOffsets() const {
    for (int w = 0; w < 2; ++w) {
      const GroupedMatmul& p = problems_.each[w];
      if (problems_.items[w] == 0) continue;
      if (p.offsets == nullptr) {
        if (threadIdx.x < 2) offsets_[w][threadIdx.x] = threadIdx.x == 0 ? 0 : __ldcg(p.rows.num);
      } else {
        for (int g = threadIdx.x; g <= p.num_groups; g += blockDim.x) {
          offsets_[w][g] = __ldcg(p.offsets + g);
        }
      }
    }
  }
  __device__ int num_items() const { return problems_.items[0] + problems_.items[1]; }
  template <bool kGateUp>
  __device__ Item At(int index, int rank) const {
    const int problem = index < problems_.items[0] ? 0 : 1;
    const GroupedMatmul& p = problems_.each[problem];
    if (problem == 1) index -= problems_.items[0];
    const int columns = problems_.columns[problem];
    RowTile rows = FindTile(
        p.offsets == nullptr ? 1 : p.num_groups, [&](int g) { return offsets_[problem][g]; },
        index / columns, kTileRows);
    Item item = {problem, rows, index % columns * OutputsOf<kGateUp>(kTileWeights),
                 rows.count > 0 && Weights<Bf16>(p, rows.group, 0) != nullptr};
    const int half = rows.count <= kBlockRows ? (rows.count + 15) / 16 * 8 : kBlockRows;
    item.rows.begin += rank * half;
    item.rows.count = rank == 0 ? min(half, rows.count) : max(0, rows.count - half);
    return item;
  }

 private:
  const Problems& problems_;
  Offsets& offsets_;
};

template <bool kGateUp>
class Filler : public RingEnd<kSlots, kBytes> {
 public:
  using RingEnd<kSlots, kBytes>::RingEnd;

  __device__ void Fill(const GroupedMatmul& p, const CUtensorMap& map, const char* origin,
                       const Item& item, int rank) {
    const int thread = static_cast<int>(threadIdx.x) - kWorkers, column = thread % kColumns;
    const Bf16* x[kVectors];
#pragma unroll
    for (int i = 0; i < kVectors; ++i) x[i] = InputRow(p, item.rows, Row(thread, i));
    const int64_t unit =
        (reinterpret_cast<const char*>(Weights<Bf16>(p, item.rows.group, p.section_bytes)) -
         origin) /
        kUnitStep;
    if (unit < 0 || unit >= 2 * kReach) __trap();
    constexpr int kOctets = kTileWeights / 16 / (kGateUp ? 2 : 1);  // of outputs, of half a tile
    // A box that lies outside as a whole is an illegal address; what it would bring is not looked at.
    int octet = item.first_output / 8 + rank * kOctets;
    if (octet * 8 >= p.outputs) octet = 0;
    const int depth = static_cast<int>(p.weight_stride);
#pragma unroll 1
    for (int k = 0; k < depth; k += kDepth) {
      AwaitRead();
      if (thread == 0) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(filled()),
                     "r"(kWeightBytes)
                     : "memory");
        CopyBoxToBoth(slot() + rank * kHalfBytes, map, k, octet, static_cast<int>(unit), filled());
      }
      // Rows that are not there may be anything: each has sums of its own.
      const int at = k + column * 8;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        if (x[i] == nullptr) continue;
        const int row = Row(thread, i);
        const bool valid = at < p.inputs;
        CopyAsync16(slot() + kWeightBytes + row * 128 + ((column ^ row) & 7) * 16,
                    valid ? x[i] + at : x[i], valid);
      }
      asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(filled())
                   : "memory");
      Advance();
    }
  }

 private:
  static constexpr int kVectors = kBlockRows * kColumns / kFillers;
  __device__ static int Row(int thread, int i) { return (i * kFillers + thread) / kColumns; }
};

// The 16 weight rows of the tile from first_row on, of which this lane has g and g + 8, with the block's
// rows of x. out_rows [kBlockRows]: where these go.
template <int kRows, bool kGateUp>
__device__ void StoreTileSums(const GroupedMatmul& p, const Item& item, const int* out_rows,
                              int first_row, const float (&sums)[kRows / 2]) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int output = item.first_output + OutputsOf<kGateUp>(first_row) + g / 2 * 2;
#pragma unroll
  for (int n = 0; n < kRows / 8; ++n) {
    const int r = n * 8 + 2 * t + g % 2;
    const bool is_row = r < item.rows.count;
    const int64_t at = is_row ? out_rows[r] * p.out_stride + output : 0;
    if constexpr (kGateUp) {
      float mid[2];
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        mid[c] = __fmul_rn(Silu(sums[4 * n + c]), sums[4 * n + 2 + c]);
      }
      const float2 of_row = NeighbourOutputs(mid[0], mid[1]);
      if (is_row && output < p.out_columns) {
        *reinterpret_cast<uint32_t*>(static_cast<Bf16*>(p.out) + at) = RoundPair(of_row);
      }
    } else {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float2 of_row = NeighbourOutputs(sums[4 * n + 2 * i], sums[4 * n + 2 * i + 1]);
        if (is_row && output + 8 * i < p.out_columns) {
          *reinterpret_cast<float2*>(static_cast<float*>(p.out) + at + 8 * i) = of_row;
        }
      }
    }
  }
}

// 128 weight rows, from the warpgroup's first one on, times up to kRows rows of x, stored.
template <int kRows, bool kGateUp>
__device__ void Multiply(const GroupedMatmul& p, const Item& item, const int* out_rows,
                         RingReader<kSlots, kBytes>& ring) {
  const int warp = UniformInWarp(threadIdx.x / 32), group = warp / 4;
  float low[kRows / 2], high[kRows / 2];  // of the first 64 weight rows, and of the others
  const int depth = static_cast<int>(p.weight_stride);
  uint32_t before = 0;
#pragma unroll 1
  for (int k = 0; k < depth; k += kDepth) {
    const uint32_t slot = ring.Await();
    const WgmmaTile weights = WgmmaTile::Rows(slot + group * kHalfBytes);
    const WgmmaTile x = WgmmaTile::Rows(slot + kWeightBytes);
    WgmmaSeesShared();
    WgmmaBegin();
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i) {
      Wgmma<kRows>::Add(low, weights.At(32 * i), x.At(32 * i), k + i > 0);
      Wgmma<kRows>::Add(high, weights.At(kHalfBytes / 2 + 32 * i), x.At(32 * i), k + i > 0);
    }
    WgmmaCommit();
    WgmmaWait<1>();  // the slot before has been read
    if (k > 0) FreeInBoth(before);
    before = ring.Leave();
  }
  WgmmaWait<0>();
  FreeInBoth(before);
  asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory");  // out_rows are there
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int first_row = group * 128 + half * 64 + warp % 4 * 16;
    StoreTileSums<kRows, kGateUp>(p, item, out_rows, first_row, half == 0 ? low : high);
  }
}

template <bool kGateUp>
__global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(kWorkers + kFillers, 1)
    ClusterMatmulKernel(const __grid_constant__ Problems problems,
                        const __grid_constant__ WeightMaps maps) {
  extern __shared__ __align__(1024) unsigned char slots[];
  __shared__ RingBarriers<kSlots> barriers;
  __shared__ int out_rows[2][kBlockRows];  // of the tile at hand, of the one before
  __shared__ Offsets offsets;
  const Schedule schedule(problems, offsets);
  if (threadIdx.x == 0) barriers.Init(problems.waits, kFillers + 1, 2 * kWorkers / 32);
  AwaitKernelsBefore();
  schedule.ReadOffsets();
  __syncthreads();
  SyncCluster();
  const int rank = BlockInCluster(), clusters = static_cast<int>(gridDim.x) / 2;
  if (UniformInWarp(threadIdx.x / 32) >= kWorkers / 32) {
    KeepFewerRegisters<kFillerRegisters>();
    Filler<kGateUp> filler(slots, barriers);
#pragma unroll 1
    for (int i = blockIdx.x / 2; i < schedule.num_items(); i += clusters) {
      const Item item = schedule.At<kGateUp>(i, rank);
      if (!item.has_work) continue;
      filler.Fill(problems.each[item.problem], maps.each[item.problem], problems.origin, item,
                  rank);
    }
  } else {
    TakeMoreRegisters<kWorkerRegisters>();
    RingReader<kSlots, kBytes> ring(slots, barriers);
    int buffer = 0;
#pragma unroll 1
    for (int i = blockIdx.x / 2; i < schedule.num_items(); i += clusters) {
      const Item item = schedule.At<kGateUp>(i, rank);
      if (!item.has_work) continue;
      const GroupedMatmul& p = problems.each[item.problem];
      if (static_cast<int>(threadIdx.x) < item.rows.count) {
        const int row = item.rows.begin + static_cast<int>(threadIdx.x);
        out_rows[buffer][threadIdx.x] = p.out_index == nullptr ? row : p.out_index[row];
      }
      item.rows.count <= 64 ? Multiply<64, kGateUp>(p, item, out_rows[buffer], ring)
                            : Multiply<128, kGateUp>(p, item, out_rows[buffer], ring);
      buffer ^= 1;
    }
  }
  SyncCluster();  // the other block may still copy to this one, or free its slots
}

// Eight outputs after the other, for gate and up of both: boxes are the weight rows of half a tile.
cudaError_t MapWeights(const GroupedMatmul& p, bool gate_up, const char* origin, CUtensorMap* map) {
  const uint64_t row = p.weight_stride * sizeof(Bf16);
  const uint64_t to_up = gate_up ? p.second_section_bytes - p.section_bytes : row;
  const uint32_t sections = gate_up ? 2 : 1;
  return MakeTensorMap<5>(
      const_cast<char*>(origin),
      {uint64_t(p.weight_stride), 8, sections, uint64_t(p.outputs / 8), uint64_t{2 * kReach}},
      {row, to_up, 8 * row, kUnitStep}, {kDepth, 8, sections, kTileWeights / 16 / sections, 1},
      map);
}

bool Takes(const GroupedMatmul& p, bool gate_up) {
  return p.outputs % 8 == 0 && p.out_columns == p.outputs && p.out_stride % 2 == 0 &&
         p.num_groups <= kGroupsMax && p.section_bytes % kUnitStep == 0 && p.weight_stride > 0 &&
         (!gate_up || p.second_section_bytes > p.section_bytes) &&
         (p.units != nullptr || reinterpret_cast<uintptr_t>(p.weight) % kUnitStep == 0);
}

}  // namespace

bool ClusterMatmul(Stream& stream, const GroupedMatmul& p, const GroupedMatmul* also,
                   bool gate_up) {
  Problems problems = {};
  WeightMaps maps = {};
  problems.origin =
      reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(p.out) / kUnitStep * kUnitStep) -
      kReach * kUnitStep;
  problems.waits = stream.waits(WaitingKernel::kClusterMatmul);
  for (int i = 0; i < (also != nullptr ? 2 : 1); ++i) {
    const GroupedMatmul& one = i == 0 ? p : *also;
    if (!Takes(one, gate_up)) return false;
    problems.each[i] = one;
    problems.columns[i] = CeilDiv(one.outputs, kTileWeights / (gate_up ? 2 : 1));
    problems.items[i] = problems.columns[i] * TilesMax(one, kTileRows);
    if (MapWeights(one, gate_up, problems.origin, &maps.each[i]) != cudaSuccess) return false;
  }
  const int clusters = std::min(stream.multiprocessors / 2, problems.items[0] + problems.items[1]);
  LaunchEarly(stream, 2 * clusters, kWorkers + kFillers, kSlots * kBytes,
              gate_up ? ClusterMatmulKernel<true> : ClusterMatmulKernel<false>, problems, maps);
  return true;
}

}  // namespace pregate::cuda

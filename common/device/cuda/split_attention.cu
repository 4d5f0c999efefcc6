#include "common/device/cuda/split_attention.cuh"

namespace pregate::cuda {
namespace {

constexpr int kRings = 4, kSlots = 5;  // a warp reads each ring, another one fills it
constexpr int kBlocks = 264;           // two on each multiprocessor of the largest cards

// A ring's items, one after the other.
struct Items {
  const AttentionProblem& p;
  const SplitRows& rows;
  int step;

  __device__ int num() const { return rows.num_items(p.heads); }
};
template <int kDims>
class ItemSource {
 public:
  __device__ ItemSource(const Items& items, int first) : item_(first - items.step) {}
  __device__ bool done(const Items& items) const { return item_ >= items.num(); }
  __device__ bool Issue(const Items& items, uint32_t slot) {
    tile_.Issue(slot, items.p.heads.head_dim);
    return tile_.done();
  }
  __device__ void Advance(const Items& items) {
    item_ += items.step;
    if (done(items)) return;
    const Heads& heads = items.p.heads;
    tile_.Begin(items.rows, SplitItem(items.rows, heads, item_), items.p.kv, heads);
  }

 private:
  int item_;
  TileStream<kDims> tile_;
};

template <int kDims>
__global__ void __launch_bounds__(2 * kRings * 32, 2)
    SplitAttentionKernel(const __grid_constant__ AttentionProblem p,
                         const __grid_constant__ TileSums sums,
                         const __grid_constant__ WaitLimit waits) {
  extern __shared__ __align__(128) unsigned char all_slots[];  // [kRings][kSlots][kSlotBytes]
  __shared__ SplitRows rows;
  __shared__ RingBarriers<kSlots> all_barriers[kRings];
  if (threadIdx.x < 32) rows.Find(p, /*stores=*/false);
  if (threadIdx.x < kRings) all_barriers[threadIdx.x].Init(waits);
  __syncthreads();
  AwaitKernelsBefore();
  const int warp = threadIdx.x / 32, ring = warp % kRings;
  const Items items = {p, rows, static_cast<int>(gridDim.x) * kRings};
  const int first = ring * gridDim.x + blockIdx.x;
  unsigned char* slots = all_slots + ring * kSlots * kSlotBytes;
  if (warp >= kRings) {
    RingFiller<ItemSource<kDims>, kSlots> filler(slots, all_barriers[ring],
                                                 ItemSource<kDims>(items, first));
    return filler.Run(items);
  }
  RingReader<kSlots> reader(slots, all_barriers[ring]);
  const SplitAttentionWarp<kDims> attention(p, p.kv, rows, sums);
  Publisher publisher;
  attention.RunAll(reader, first, items.step, items.num(), publisher);
}

}  // namespace

size_t SplitAttentionBytes(const PagedTokens& tokens, const Heads& heads) {
  const bool takes = IsTensorHead(heads) && tokens.rows.max <= kSplitRowsMax &&
                     heads.num_kv_heads <= kSplitKvHeadsMax &&
                     heads.num_heads / heads.num_kv_heads <= kGroupHeadsMax;
  return takes ? TileSums::Bytes(tokens, heads, kTileKeys) : 0;
}

void SplitAttention(Stream& stream, const AttentionProblem& p, void* scratch) {
  const TileSums sums = TileSums::At(scratch, p.tokens, p.heads, kTileKeys);
  LaunchEarly(stream, kBlocks, 2 * kRings * 32, kRings * kSlots * kSlotBytes,
              p.heads.head_dim <= 64 ? SplitAttentionKernel<64> : SplitAttentionKernel<128>, p,
              sums, stream.waits(WaitingKernel::kSplitAttention));
}

}  // namespace pregate::cuda

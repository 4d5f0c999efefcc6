#include "common/device/cuda/split_attention.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = 4, kSlots = 6;
constexpr int kBlocks = 264;  // two on each multiprocessor of the largest cards

// A warp's items, one after the other.
template <int kDims>
class ItemSource {
 public:
  __device__ ItemSource(const AttentionProblem& p, const SplitRows& rows, int first, int step)
      : p_(p), rows_(rows), next_(first), step_(step) {}
  __device__ void Issue(uint32_t slot) {
    if (tile_.done()) {
      if (next_ >= rows_.num_items(p_.heads)) return;
      tile_.Begin(rows_, SplitItem(rows_, p_.heads, next_), p_.kv, p_.heads);
      next_ += step_;
    }
    tile_.Issue(slot, p_.heads.head_dim);
  }

 private:
  const AttentionProblem& p_;
  const SplitRows& rows_;
  int next_;
  const int step_;
  TileStream<kDims> tile_;
};

template <int kDims>
__global__ void __launch_bounds__(kWarps * 32)
    SplitAttentionKernel(const __grid_constant__ AttentionProblem p,
                         const __grid_constant__ TileSums sums) {
  extern __shared__ __align__(128) unsigned char slots[];  // [kWarps][kSlots][kSlotBytes]
  __shared__ SplitRows rows;
  if (threadIdx.x == 0) rows.Find(p);
  __syncthreads();
  const int warp = threadIdx.x / 32, items = rows.num_items(p.heads);
  const int first = warp * gridDim.x + blockIdx.x, step = gridDim.x * kWarps;
  StreamRing<ItemSource<kDims>, kSlots> ring(slots + warp * kSlots * kSlotBytes,
                                             ItemSource<kDims>(p, rows, first, step));
  const SplitAttentionWarp<kDims> attention(p, p.kv, rows, sums);
  Publisher publisher;
  for (int i = first; i < items; i += step) attention.Run(ring, i, publisher);
}

}  // namespace

size_t SplitAttentionBytes(const PagedTokens& tokens, const Heads& heads) {
  const bool takes = IsTensorHead(heads) && tokens.rows.max <= kSplitRowsMax &&
                     heads.num_heads / heads.num_kv_heads <= kGroupHeadsMax;
  return takes ? TileSums::Bytes(tokens, heads) : 0;
}

void SplitAttention(Stream& stream, const AttentionProblem& p, void* scratch) {
  const TileSums sums = TileSums::At(scratch, p.tokens, p.heads);
  Launch(stream, kBlocks, kWarps * 32, kWarps * kSlots * kSlotBytes,
         p.heads.head_dim <= 64 ? SplitAttentionKernel<64> : SplitAttentionKernel<128>, p, sums);
}

}  // namespace pregate::cuda

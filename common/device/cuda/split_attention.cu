#include "common/device/cuda/split_attention.cuh"

namespace pregate::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kBlocks = 264;  // two on each multiprocessor of the largest cards

template <int kDims>
__global__ void __launch_bounds__(kWarps * 32)
    SplitAttentionKernel(AttentionProblem p, TileSums sums) {
  __shared__ SplitRows rows;
  if (threadIdx.x == 0) rows.Find(p);
  __syncthreads();
  const SplitAttentionWarp<kDims> warp(p, p.kv, rows, sums);
  const int items = rows.num_items(p.heads);
  for (int i = threadIdx.x / 32 * gridDim.x + blockIdx.x; i < items; i += gridDim.x * kWarps) {
    warp.Run(i);
  }
}

}  // namespace

size_t SplitAttentionBytes(const PagedTokens& tokens, const Heads& heads) {
  const bool takes = IsTensorHead(heads) && tokens.rows.max <= kSplitRowsMax &&
                     heads.num_heads / heads.num_kv_heads <= kGroupHeadsMax;
  return takes ? TileSums::Bytes(tokens, heads) : 0;
}

void SplitAttention(Stream& stream, const AttentionProblem& p, void* scratch) {
  const TileSums sums = TileSums::At(scratch, p.tokens, p.heads);
  Launch(stream, kBlocks, kWarps * 32, 0,
         p.heads.head_dim <= 64 ? SplitAttentionKernel<64> : SplitAttentionKernel<128>, p, sums);
}

}  // namespace pregate::cuda

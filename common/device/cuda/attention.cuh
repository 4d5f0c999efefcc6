// What the attention kernels share: their arguments, and the order of their sums.
//
// Keys are cut into tiles of kTileKeys (kPlainTileKeys) positions, counted from position 0. A tile
// answers each query with the largest score that it shows, the sum of the weights relative to that
// one, and the weighted sum of its values. A row's tiles are merged in ascending order. So it does
// not matter which kernel ran a row, how many rows stood beside it, or who ran its tiles.
#pragma once

#include "common/device/cuda/paged_kv.cuh"

namespace pregate::cuda {

inline constexpr int kTileKeys = 64;

struct AttentionProblem {
  PagedTokens tokens;
  Heads heads;
  const float* q;  // [max, heads, head_dim]
  PagedKv kv;
  float scale;
  int window;  // keys that a token sees, itself included; 0: all

  __host__ __device__ int FirstKey(int position) const {
    const int first = position + 1 - window;
    return window > 0 && first > 0 ? first : 0;
  }
  bool out_bf16;
  void* out;  // [max, heads, head_dim]
};

// A row's sums over the tiles so far, and how the next tile enters them:
//   sum = sum keep + tile's sum gain, and so for each channel of the output.
struct RunningTop {
  float top = -INFINITY;

  // Takes in a tile; `keep` and `gain` are for the sums.
  __device__ void Take(float tile_top, float& keep, float& gain) {
    const float larger = fmaxf(top, tile_top);
    const float shift = larger == -INFINITY ? 0 : larger;  // before the first key that is seen
    keep = expf(top - shift);
    gain = expf(tile_top - shift);
    top = larger;
  }
};
__device__ inline float Merged(float before, float keep, float tile, float gain) {
  return __fmaf_rn(tile, gain, __fmul_rn(before, keep));
}

// Any types, any head_dim up to kHeadDimMax.
void PlainAttention(Stream& stream, const AttentionProblem& problem);
// REQUIRES of both: bf16 keys, IsTensorHead. The second one spreads each row's tiles over the card.
void TensorAttention(Stream& stream, const AttentionProblem& problem);
void SplitAttention(Stream& stream, const AttentionProblem& problem, void* scratch);

inline bool IsTensorHead(const Heads& heads) {
  return heads.head_dim % 8 == 0 && heads.head_dim <= 128;
}

}  // namespace pregate::cuda

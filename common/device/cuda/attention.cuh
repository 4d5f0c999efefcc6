// What the attention kernels share: their arguments, and the order of their sums.
//
// Keys are cut into tiles of kTileKeys (the plain kernel: 32) positions, counted from position 0. A
// tile answers each query with a whole number `top` not below its largest score (base 2), the sum of
// the weights 2^(score - top), and the sum of its values by these weights. The tiles' sums are added
// in ascending order, each scaled by a power of two, which rounds nothing (above the smallest normal
// number): so it does not matter whether a block walked over a row's tiles or others ran them, what
// the largest score so far was when a tile came, or how many rows stood beside it.
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

  __device__ int FirstKey(int position) const {
    return window > 0 ? max(0, position + 1 - window) : 0;
  }
  bool out_bf16;
  void* out;  // [max, heads, head_dim]
};

// 2^k of a whole k <= 0; 0 below the smallest normal number, and for -inf and NaN.
__device__ inline float PowerOfTwo(float k) {
  return __int_as_float((static_cast<int>(fmaxf(k, -127.0f)) + 127) << 23);
}

// How a tile enters a row's sums: sum = sum keep + tile's sum gain, and so for each channel.
struct RunningTop {
  float top = -INFINITY;

  __device__ void Take(float tile_top, float& keep, float& gain) {
    const float larger = fmaxf(top, tile_top);
    keep = PowerOfTwo(top - larger);
    gain = PowerOfTwo(tile_top - larger);
    top = larger;
  }
};
__device__ inline float Merged(float before, float keep, float tile, float gain) {
  return __fmaf_rn(tile, gain, __fmul_rn(before, keep));
}

// Any types, any head_dim up to kHeadDimMax. A `scratch` that is not null spreads each row's tiles.
void PlainAttention(Stream& stream, const AttentionProblem& problem, void* scratch);
// REQUIRES of all three: bf16 keys, IsTensorHead.
void TensorAttention(Stream& stream, const AttentionProblem& problem);
// For Hopper.
bool TakesWarpgroupAttention(const PagedTokens& tokens, const Heads& heads);
void WarpgroupAttention(Stream& stream, const AttentionProblem& problem);
// Spreads each row's tiles over the card. `scratch` holds SplitAttentionBytes, which began as zeros.
void SplitAttention(Stream& stream, const AttentionProblem& problem, void* scratch);

inline bool IsTensorHead(const Heads& heads) {
  return heads.head_dim % 8 == 0 && heads.head_dim <= 128;
}

}  // namespace pregate::cuda

// Scratch of attention whose tiles of keys are spread over the card.
#pragma once

#include "common/device/cuda/attention.cuh"

namespace pregate::cuda {

inline constexpr int kSplitRowsMax = 32, kSplitKvHeadsMax = 256;

// Where the sums of tiles lie: a part for each row, query head and tile, in an order that is the
// kernel's own.
struct TileSums {
  int* arrived;  // [rows, heads of queries or keys] that have ended something; 0 between two calls
  float* out;    // [parts, head_dim] weighted sums of values
  float2* tops;  // [parts] top, sum of weights

  // The same for all heads, so that what is 0 between two calls of one kind is for all kinds.
  static constexpr size_t kArrived = size_t{kSplitRowsMax} * kSplitKvHeadsMax;
  static constexpr size_t kArrivedBytes = sizeof(int) * kArrived;

  static constexpr size_t kBytesMax = size_t{512} << 20;

  // Tiles of so many keys that a row may see.
  static int TilesMax(const PagedTokens& tokens, int tile_keys) {
    return tokens.blocks_per_seq * kBlockTokens / tile_keys + 1;
  }
  // 0: more than attention may take.
  static size_t Bytes(const PagedTokens& tokens, const Heads& heads, int tile_keys) {
    const size_t parts = Parts(tokens, heads, tile_keys);
    const size_t bytes =
        kArrivedBytes + parts * sizeof(float2) + (parts * heads.head_dim + 1) * sizeof(float);
    return bytes <= kBytesMax ? bytes : 0;
  }
  // `scratch` holds Bytes(), and began as zeros.
  static TileSums At(void* scratch, const PagedTokens& tokens, const Heads& heads, int tile_keys) {
    char* at = static_cast<char*>(scratch);
    const size_t sums_end = (Parts(tokens, heads, tile_keys) * heads.head_dim + 1) / 2 * 2;
    TileSums sums;
    sums.arrived = reinterpret_cast<int*>(at);
    sums.out = reinterpret_cast<float*>(at + kArrivedBytes);
    sums.tops = reinterpret_cast<float2*>(sums.out + sums_end);
    return sums;
  }

 private:
  static size_t Parts(const PagedTokens& tokens, const Heads& heads, int tile_keys) {
    return size_t(tokens.rows.max) * heads.num_heads * TilesMax(tokens, tile_keys);
  }
};

}  // namespace pregate::cuda

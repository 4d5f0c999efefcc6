// Scratch of attention whose tiles of keys are spread over the card.
#pragma once

#include "common/device/cuda/attention.cuh"

namespace pregate::cuda {

inline constexpr int kSplitRowsMax = 32, kSplitKvHeadsMax = 256;

// Where the sums of tiles lie.
struct TileSums {
  int* arrived;  // [rows, heads of queries or keys] that have ended something; 0 between two calls
  float* out;    // [parts, head_dim] weighted sums of values
  float2* tops;  // [parts] top, sum of weights

  // The same for all heads, so that what is 0 between two calls of one kind is for all kinds.
  static constexpr size_t kArrived = size_t{kSplitRowsMax} * kSplitKvHeadsMax;
  static constexpr size_t kArrivedBytes = sizeof(int) * kArrived;

  // 0: more than attention may take.
  static size_t BytesOf(size_t parts, int head_dim) {
    const size_t bytes =
        kArrivedBytes + parts * sizeof(float2) + (parts * head_dim + 1) * sizeof(float);
    return bytes <= kBytesMax ? bytes : 0;
  }
  static constexpr size_t kBytesMax = size_t{512} << 20;
  // `scratch` holds BytesOf(), and began as zeros.
  static TileSums Of(void* scratch, size_t parts, int head_dim) {
    char* at = static_cast<char*>(scratch);
    TileSums sums;
    sums.arrived = reinterpret_cast<int*>(at);
    sums.out = reinterpret_cast<float*>(at + kArrivedBytes);
    sums.tops = reinterpret_cast<float2*>(sums.out + (parts * head_dim + 1) / 2 * 2);
    return sums;
  }

  // Of SplitAttention. Part i is of the i-th (row, query head, tile), counted over the tiles that the
  // rows see.
  static size_t Parts(const PagedTokens& tokens, const Heads& heads) {
    const int tiles_max = tokens.blocks_per_seq * kBlockTokens / kTileKeys + 1;
    return size_t(tokens.rows.max) * heads.num_heads * tiles_max;
  }
  static size_t Bytes(const PagedTokens& tokens, const Heads& heads) {
    return BytesOf(Parts(tokens, heads), heads.head_dim);
  }
  static TileSums At(void* scratch, const PagedTokens& tokens, const Heads& heads) {
    return Of(scratch, Parts(tokens, heads), heads.head_dim);
  }
};

}  // namespace pregate::cuda

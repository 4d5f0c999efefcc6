// One tile of attention on tensor cores: 16 queries of a warp, rows g and g + 8 of a lane (g, t) =
// (lane / 4, lane % 4), over 64 keys. Queries and weights are rounded to bf16; a score sums 16 channels
// after the other, a channel 16 keys after the other, so that Hopper's products of a warpgroup give the
// same bits.
#pragma once

#include "common/device/cuda/attention.cuh"
#include "common/device/cuda/mma.cuh"

namespace pregate::cuda {

// Rows of keys or values in shared memory are kDims / 8 vectors of 16 bytes, swapped around so that
// the lanes that read together hit different banks.
template <int kDims>
struct TileLayout {
  static constexpr int kChunks = kDims / 8;

  __device__ static int At(int row, int chunk) { return row * kChunks + (chunk ^ (row & 7)); }
};

// The vectors of 16 keys that this lane names to LoadKeys and LoadValues: chunks 2 j, 2 j + 1.
template <int kDims>
struct TileLane {
  __device__ static int Keys(int first_row, int j) {
    const int lane = threadIdx.x % 32;
    return TileLayout<kDims>::At(first_row + lane / 16 * 8 + lane % 8, 2 * j + lane / 8 % 2);
  }
  __device__ static int Values(int first_row, int j) {
    const int lane = threadIdx.x % 32;
    return TileLayout<kDims>::At(first_row + lane % 16, 2 * j + lane / 16);
  }
};

__device__ inline void LoadTransposed(uint32_t row, uint32_t (&b)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(row));
}

// The tile's scores become weights 2^(score * scale - top), where `scale`, which is positive, includes
// log2 e and top is a whole number; sees(i, k): row g + 8i sees the tile's k-th key. All four lanes of a
// row get its top and sum. kRows 1: only rows g count.
template <int kRows, class Sees>
__device__ void TileSoftmax(float scale, const Sees& sees, Accumulator (&x)[kTileKeys / 8],
                            float (&top)[kRows], float (&sum)[kRows]) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    float largest = -INFINITY;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& value = x[n].c[2 * i + c];
        if (!sees(i, n * 8 + 2 * t + c)) value = -INFINITY;
        largest = fmaxf(largest, value);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    top[i] = ceilf(__fmul_rn(largest, scale));
    const float shift = top[i] == -INFINITY ? 0 : top[i];
    sum[i] = 0;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& value = x[n].c[2 * i + c];
        value = Exp2(__fmaf_rn(value, scale, -shift));
        sum[i] = __fadd_rn(sum[i], value);
      }
    }
    sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(~0u, sum[i], 1));
    sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(~0u, sum[i], 2));
  }
}

// The weights of 16 keys as the left side of a product.
struct TileWeights {
  uint32_t a[4];

  __device__ TileWeights(const Accumulator& first, const Accumulator& second)
      : a{RoundPair(first.c[0], first.c[1]), RoundPair(first.c[2], first.c[3]),
          RoundPair(second.c[0], second.c[1]), RoundPair(second.c[2], second.c[3])} {}
};
// out[c] += weights · values of the 16 keys in channels 8c .. 8c + 7; values[c / 2]: what
// LoadTransposed gives of two times eight channels. Chains go side by side.
template <int kEights>
__device__ void AddValues(Accumulator* out, const TileWeights& weights,
                          const uint32_t (*values)[4]) {
  const uint32_t(&w)[4] = weights.a;
#pragma unroll
  for (int c = 0; c < kEights; ++c) {
    Mma(out[c], w[0], w[1], w[2], w[3], values[c / 2][c % 2 * 2], values[c / 2][c % 2 * 2 + 1]);
  }
}

__device__ inline bool HasNotFinite(uint32_t pair) {
  return (pair & 0x7F80u) == 0x7F80u || (pair & 0x7F800000u) == 0x7F800000u;
}
__device__ inline bool HasNotFinite(const uint4& v) {
  return HasNotFinite(v.x) || HasNotFinite(v.y) || HasNotFinite(v.z) || HasNotFinite(v.w);
}
// In tiles that their rows see in part: RowTops::NotePoison. By `threads` threads, which synchronize
// afterwards; at(key, chunk): the shared address of eight values of a key.
template <class At>
__device__ void TakeOutNotFinite(int thread, int threads, int chunks, const At& at,
                                 unsigned long long* poison) {
  for (int i = thread; i < kTileKeys * chunks; i += threads) {
    const uint32_t address = at(i / chunks, i % chunks);
    if (!HasNotFinite(LoadShared(address))) continue;
    StoreShared(address, {0, 0, 0, 0});
    atomicOr(poison, 1ull << (i / chunks));
  }
}

// Which keys a lane's rows g and g + 8 see, and what they have gathered of the tiles so far.
struct RowTops {
  RunningTop top[2];
  float sum[2] = {0, 0};
  int first_key[2], position[2];  // a row sees the keys from one to the other
  bool poisoned[2] = {false, false};

  __device__ bool Sees(int row, int key) const {
    return key >= first_key[row] && key <= position[row];
  }
  // Bit k of `poison`: key first + k has a value that is not finite, which became 0 in the tile, since
  // weight 0 times such a value would harm rows that do not see it. Those that do answer with NaN.
  __device__ void NotePoison(unsigned long long poison, int first) {
    for (; poison != 0; poison &= poison - 1) {
      const int key = first + __ffsll(poison) - 1;
      for (int i = 0; i < 2; ++i) poisoned[i] |= Sees(i, key);
    }
  }
  __device__ void Take(const float (&tile_top)[2], const float (&tile_sum)[2], float (&keep)[2],
                       float (&gain)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      top[i].Take(tile_top[i], keep[i], gain[i]);
      sum[i] = Merged(sum[i], keep[i], tile_sum[i], gain[i]);
    }
  }
  __device__ float Divisor(int row) const { return poisoned[row] ? NAN : sum[row]; }
};

}  // namespace pregate::cuda

// One tile of attention on tensor cores: 16 queries of a warp, rows g and g + 8 of a lane (g, t) =
// (lane / 4, lane % 4), over 64 keys. Queries (f32) and weights are split in two bf16 parts each, so
// that products lose nothing that shows.
#pragma once

#include "common/device/cuda/attention.cuh"
#include "common/device/cuda/mma.cuh"

namespace pregate::cuda {

// Two floats as their bf16 parts: `high` nearest to them, `low` nearest to what is left.
struct SplitPair {
  uint32_t high, low;

  __device__ SplitPair(float a, float b) {
    const __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    const __nv_bfloat162 l = __floats2bfloat162_rn(a - __low2float(h), b - __high2float(h));
    high = *reinterpret_cast<const uint32_t*>(&h);
    low = *reinterpret_cast<const uint32_t*>(&l);
  }
};

struct SplitEight {
  uint4 high, low;

  __device__ SplitEight() : high{0, 0, 0, 0}, low{0, 0, 0, 0} {}
  __device__ SplitEight(const float4& a, const float4& b) {
    const SplitPair p0(a.x, a.y), p1(a.z, a.w), p2(b.x, b.y), p3(b.z, b.w);
    high = {p0.high, p1.high, p2.high, p3.high};
    low = {p0.low, p1.low, p2.low, p3.low};
  }
};

// Rows of keys or values in shared memory are kDims / 8 vectors of 16 bytes, swapped around so that
// the lanes that read together hit different banks.
template <int kDims>
struct TileLayout {
  static constexpr int kChunks = kDims / 8;

  __device__ static int KeyAt(int row, int chunk) {
    return row * kChunks + (chunk ^ ((row & 1) * 4));
  }
  __device__ static int ValueAt(int row, int chunk) { return row * kChunks + (chunk ^ (row & 7)); }
};

__device__ inline void LoadTransposed(uint32_t row, uint32_t (&b)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(b[0]), "=r"(b[1]), "=r"(b[2]), "=r"(b[3])
               : "r"(row));
}

// x[n] += q · keys[n] over 32 channels, eight keys each. A lane holds channels 8t .. 8t + 7 of its
// rows g and g + 8 of q, and of key g. Each sum takes channels 8t .. 8t + 3 of all lanes, then the
// others, of q's high part, then of its low one; chains go side by side.
template <int kEights>
__device__ void MultiplyKeys(Accumulator* x, const SplitEight& q0, const SplitEight& q1,
                             const uint4* keys) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const uint4 &a = part == 0 ? q0.high : q0.low, &b = part == 0 ? q1.high : q1.low;
#pragma unroll
    for (int n = 0; n < kEights; ++n) Mma(x[n], a.x, b.x, a.y, b.y, keys[n].x, keys[n].y);
#pragma unroll
    for (int n = 0; n < kEights; ++n) Mma(x[n], a.z, b.z, a.w, b.w, keys[n].z, keys[n].w);
  }
}

// The tile's scores become weights 2^(score * scale - top), where `scale` includes log2 e and top is
// a whole number; sees(i, k): row g + 8i sees the tile's k-th key. All four lanes of a row get its
// top and sum. kRows 1: only rows g count.
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
        value = sees(i, n * 8 + 2 * t + c) ? __fmul_rn(value, scale) : -INFINITY;
        largest = fmaxf(largest, value);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    top[i] = ceilf(largest);
    const float shift = top[i] == -INFINITY ? 0 : top[i];
    sum[i] = 0;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float& value = x[n].c[2 * i + c];
        value = Exp2(value - shift);
        sum[i] = __fadd_rn(sum[i], value);
      }
    }
    sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(~0u, sum[i], 1));
    sum[i] = __fadd_rn(sum[i], __shfl_xor_sync(~0u, sum[i], 2));
  }
}

// The weights of 16 keys as the left side of a product, split in two bf16 parts.
struct TileWeights {
  uint32_t high[4], low[4];

  __device__ TileWeights(const Accumulator& first, const Accumulator& second) {
    const SplitPair a0(first.c[0], first.c[1]), a1(first.c[2], first.c[3]),
        a2(second.c[0], second.c[1]), a3(second.c[2], second.c[3]);
    high[0] = a0.high, high[1] = a1.high, high[2] = a2.high, high[3] = a3.high;
    low[0] = a0.low, low[1] = a1.low, low[2] = a2.low, low[3] = a3.low;
  }
};
// out[c] += weights · values of the 16 keys in channels 8c .. 8c + 7; values[c / 2]: what
// LoadTransposed gives of two times eight channels. High parts first; chains go side by side.
template <int kEights>
__device__ void AddValues(Accumulator* out, const TileWeights& weights,
                          const uint32_t (*values)[4]) {
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const uint32_t* w = part == 0 ? weights.high : weights.low;
#pragma unroll
    for (int c = 0; c < kEights; ++c) {
      Mma(out[c], w[0], w[1], w[2], w[3], values[c / 2][c % 2 * 2], values[c / 2][c % 2 * 2 + 1]);
    }
  }
}

}  // namespace pregate::cuda

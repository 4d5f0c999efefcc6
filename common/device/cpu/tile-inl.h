// The one micro-kernel: c[r][:] += sum over i of a[r][i] * b[i][:], for a few rows and 16 or 32
// columns. Each element of c is a single chain of fused multiply-adds in the order of i. Its bits
// therefore do not depend on how rows are tiled, where the sum over i is cut, or how wide a
// register is.
#if defined(PREGATE_COMMON_DEVICE_CPU_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef PREGATE_COMMON_DEVICE_CPU_TILE_INL_H_
#undef PREGATE_COMMON_DEVICE_CPU_TILE_INL_H_
#else
#define PREGATE_COMMON_DEVICE_CPU_TILE_INL_H_
#endif

#include "common/device/cpu/lanes-inl.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

// Rows whose sums fit in registers beside one (or two) groups of 16 columns.
inline constexpr int kTileRows = kParts == 1 ? 8 : kParts == 2 ? 6 : 2;
inline constexpr int kWideRows = kParts == 1 ? 8 : kParts == 2 ? 2 : 1;

template <class W>
struct TileArgs {
  const float* const* a;  // [rows] pointers to [depth]
  size_t a_offset;        // added to each of them
  size_t depth;
  const W* b;  // [depth, b_stride]
  size_t b_stride;
  float* c;  // [rows, c_stride]
  size_t c_stride;
  bool fresh;                   // c starts at zero
  const char* ahead = nullptr;  // what is needed next, for kAheadLines
};

// The loop over i fetches kAheadLines cache lines of what is needed next, in order, while it waits
// for its multipliers.
template <int kRows, int kGroups, int kAheadLines, class W>
HWY_INLINE void MulAddTile(const TileArgs<W>& t) {
  constexpr size_t kLineBytes = 64;
  const FloatTag d;
  Lanes sum[kRows][kGroups];
  const float* a[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    a[r] = t.a[r] + t.a_offset;
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      sum[r][g] = t.fresh ? Set(0.0f) : Load(t.c + r * t.c_stride + g * kLanes);
    }
  }
  const W* b = t.b;
  for (size_t i = 0; i < t.depth; ++i, b += t.b_stride) {
#pragma GCC unroll 2
    for (int line = 0; line < kAheadLines; ++line) {
      hwy::Prefetch(t.ahead + (i * kAheadLines + line) * kLineBytes);
    }
    Lanes column[kGroups];
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) column[g] = Load(b + g * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto x = hn::Set(d, a[r][i]);
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 4
        for (size_t p = 0; p < kParts; ++p) {
          sum[r][g].part[p] = hn::MulAdd(x, column[g].part[p], sum[r][g].part[p]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) Store(sum[r][g], t.c + r * t.c_stride + g * kLanes);
  }
}

// 16 columns for 1 <= rows <= kTileRows.
template <int kAheadLines, class W, int kRows = kTileRows>
HWY_INLINE void MulAddRows(int rows, const TileArgs<W>& t) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return MulAddRows<kAheadLines, W, kRows - 1>(rows, t);
  }
  MulAddTile<kRows, 1, kAheadLines>(t);
}

// 32 columns for 1 <= rows <= kTileRows.
template <int kAheadLines, class W, int kRows = kWideRows>
HWY_INLINE void MulAddWideRows(int rows, const TileArgs<W>& t) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return MulAddWideRows<kAheadLines, W, kRows - 1>(rows, t);
  }
  if (rows == kRows) return MulAddTile<kRows, 2, kAheadLines>(t);
  TileArgs<W> right = t;
  right.b += kLanes;
  right.c += kLanes;
  MulAddRows<kAheadLines>(rows, t);
  MulAddRows<0>(rows, right);
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle

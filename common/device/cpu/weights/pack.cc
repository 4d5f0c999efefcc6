#include "common/device/cpu/weights/pack.h"

#include <algorithm>
#include <cstddef>

#include "common/base/status.h"
#include "common/device/cpu/weights/panels.h"
#include "common/device/rounding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "common/device/cpu/weights/pack.cc"
#include "hwy/foreach_target.h"
// Must follow foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

inline void StoreOne(float value, float* out) { *out = value; }
inline void StoreOne(float value, uint16_t* out) { *out = Bf16Bits(value); }
inline void StoreOne(uint16_t bits, uint16_t* out) { *out = bits; }

template <class In, class T>
void PackSlowly(const In* rows, int num_rows, int inputs, T* columns) {
  for (int r = 0; r < num_rows; ++r) {
    for (int64_t k = 0; k < inputs; ++k) {
      StoreOne(rows[int64_t{r} * inputs + k], columns + k * kPanelOutputs + r);
    }
  }
}

#if HWY_TARGET == HWY_SCALAR

template <class In, class T>
void PackTyped(const In* rows, int num_rows, int inputs, T* columns) {
  PackSlowly(rows, num_rows, inputs, columns);
}

#else

// Blocks of 8 rows by 4 inputs in f32, or 8 in bf16, are transposed in registers.
namespace hn = hwy::HWY_NAMESPACE;
using Four = hn::Full128<float>;
using FourBits = hn::RebindToUnsigned<Four>;
using Eight = hn::Full128<uint16_t>;
using Quad = hn::Vec<Four>;

constexpr int kBlockRows = 8;
template <class In>
constexpr int kBlockInputs = 16 / sizeof(In);

// column[i] = (row[0][i], row[1][i], row[2][i], row[3][i])
HWY_INLINE void Transpose(const Quad (&row)[4], Quad (&column)[4]) {
  const Four d;
  const hn::Repartition<uint64_t, Four> pairs;
  const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, row[0], row[1]));
  const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, row[2], row[3]));
  const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, row[0], row[1]));
  const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, row[2], row[3]));
  column[0] = hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23));
  column[1] = hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23));
  column[2] = hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23));
  column[3] = hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23));
}

// The upper halves are the bf16 values; as Bf16Bits of rounding.h.
HWY_INLINE hn::Vec<Eight> Rounded(const Quad& x) {
  const FourBits d;
  const auto bits = hn::BitCast(d, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1u));
  const auto nearest = hn::Add(hn::Add(bits, hn::Set(d, 0x7FFFu)), odd);
  const auto nan = hn::Or(bits, hn::Set(d, 0x400000u));
  return hn::BitCast(Eight(), hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(x)), nan, nearest));
}

HWY_INLINE void StoreEight(const Quad& first, const Quad& second, float* out) {
  hn::StoreU(first, Four(), out);
  hn::StoreU(second, Four(), out + 4);
}
HWY_INLINE void StoreEight(const Quad& first, const Quad& second, uint16_t* out) {
  hn::StoreU(hn::ConcatOdd(Eight(), Rounded(second), Rounded(first)), Eight(), out);
}

template <class T>
HWY_INLINE void PackBlock(const float* rows, int inputs, T* columns) {
  Quad row[2][4], column[2][4];
  for (int half = 0; half < 2; ++half) {
    for (int r = 0; r < 4; ++r) {
      row[half][r] = hn::LoadU(Four(), rows + int64_t{half * 4 + r} * inputs);
    }
    Transpose(row[half], column[half]);
  }
  for (int i = 0; i < kBlockInputs<float>; ++i) {
    StoreEight(column[0][i], column[1][i], columns + i * kPanelOutputs);
  }
}

// Pairs, fours, then all eight rows of an input come together.
HWY_INLINE void PackBlock(const uint16_t* rows, int inputs, uint16_t* columns) {
  const Eight d;
  const hn::Repartition<uint32_t, Eight> pairs;
  const hn::Repartition<uint64_t, Eight> fours;
  hn::Vec<decltype(fours)> four[2][4];  // [half of the rows][two inputs]
  for (int half = 0; half < 2; ++half) {
    hn::Vec<Eight> row[4];
    for (int r = 0; r < 4; ++r) row[r] = hn::LoadU(d, rows + int64_t{half * 4 + r} * inputs);
    const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, row[0], row[1]));
    const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, row[2], row[3]));
    const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, row[0], row[1]));
    const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, row[2], row[3]));
    four[half][0] = hn::BitCast(fours, hn::InterleaveLower(pairs, low01, low23));
    four[half][1] = hn::BitCast(fours, hn::InterleaveUpper(pairs, low01, low23));
    four[half][2] = hn::BitCast(fours, hn::InterleaveLower(pairs, high01, high23));
    four[half][3] = hn::BitCast(fours, hn::InterleaveUpper(pairs, high01, high23));
  }
  for (int i = 0; i < 4; ++i) {
    uint16_t* out = columns + 2 * i * kPanelOutputs;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(fours, four[0][i], four[1][i])), d, out);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(fours, four[0][i], four[1][i])), d,
               out + kPanelOutputs);
  }
}

// A cache line of eight rows is used up before the next rows come: rows whose lengths are powers of
// two all share a few sets of the cache.
template <class In, class T>
void PackTyped(const In* rows, int num_rows, int inputs, T* columns) {
  constexpr int64_t kBlock = kBlockInputs<In>, kLine = 4 * kBlock;
  const int block_rows = num_rows / kBlockRows * kBlockRows;
  const int64_t block_inputs = inputs / kBlock * kBlock;
  for (int64_t line = 0; line < block_inputs; line += kLine) {
    const int64_t end = std::min(line + kLine, block_inputs);
    for (int r = 0; r < block_rows; r += kBlockRows) {
      for (int64_t k = line; k < end; k += kBlock) {
        PackBlock(rows + int64_t{r} * inputs + k, inputs, columns + k * kPanelOutputs + r);
      }
    }
  }
  for (int64_t k = block_inputs; k < inputs; ++k) {
    for (int r = 0; r < block_rows; ++r) {
      StoreOne(rows[int64_t{r} * inputs + k], columns + k * kPanelOutputs + r);
    }
  }
  PackSlowly(rows + int64_t{block_rows} * inputs, num_rows - block_rows, inputs,
             columns + block_rows);
}

#endif  // HWY_TARGET == HWY_SCALAR

void PackColumns(const float* rows, int num_rows, int inputs, WeightFormat format, void* columns) {
  switch (format) {
    case WeightFormat::kF32:
      return PackTyped(rows, num_rows, inputs, static_cast<float*>(columns));
    case WeightFormat::kBF16:
      return PackTyped(rows, num_rows, inputs, static_cast<uint16_t*>(columns));
  }
}

void PackBf16Columns(const uint16_t* rows, int num_rows, int inputs, uint16_t* columns) {
  PackTyped(rows, num_rows, inputs, columns);
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {
namespace {

template <class T>
void ClearTyped(int num_rows, int inputs, T* columns) {
  for (int64_t k = 0; k < inputs; ++k) std::fill_n(columns + k * kPanelOutputs, num_rows, T{0});
}

}  // namespace

HWY_EXPORT(PackColumns);
HWY_EXPORT(PackBf16Columns);

void PackColumns(const float* rows, int num_rows, int inputs, WeightFormat format, void* columns) {
  HWY_DYNAMIC_DISPATCH(PackColumns)(rows, num_rows, inputs, format, columns);
}

void PackColumns(const uint16_t* rows, int num_rows, int inputs, WeightFormat format,
                 void* columns) {
  PREGATE_CHECK(format == WeightFormat::kBF16, "rows in bf16 for an image in ", TypeName(format));
  HWY_DYNAMIC_DISPATCH(PackBf16Columns)(rows, num_rows, inputs, static_cast<uint16_t*>(columns));
}

void ClearColumns(int num_rows, int inputs, WeightFormat format, void* columns) {
  switch (format) {
    case WeightFormat::kF32:
      return ClearTyped(num_rows, inputs, static_cast<float*>(columns));
    case WeightFormat::kBF16:
      return ClearTyped(num_rows, inputs, static_cast<uint16_t*>(columns));
  }
}

void PackRows(absl::Span<const float> rows, WeightFormat format, void* out) {
  switch (format) {
    case WeightFormat::kF32:
      std::copy(rows.begin(), rows.end(), static_cast<float*>(out));
      return;
    case WeightFormat::kBF16:
      std::transform(rows.begin(), rows.end(), static_cast<uint16_t*>(out), Bf16Bits);
      return;
  }
}

void PackRows(absl::Span<const uint16_t> rows, WeightFormat format, void* out) {
  PREGATE_CHECK(format == WeightFormat::kBF16, "rows in bf16 for an image in ", TypeName(format));
  std::copy(rows.begin(), rows.end(), static_cast<uint16_t*>(out));
}

}  // namespace pregate::cpu
#endif  // HWY_ONCE

// The packed form of weights: panels of 32 outputs, each [inputs][32] elements, so that one pass
// over a panel streams it from memory in order. Outputs are padded with zeros to whole panels.
//
// An FFN unit is ceil(width / 16) panels over `hidden`, each of 16 gate and the same 16 up outputs,
// then the panels of down. All sections are multiples of 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/device/device.h"

namespace pregate::cpu {

inline constexpr int kPanelOutputs = 32;
inline constexpr int kPanelPairs = kPanelOutputs / 2;  // gate and up outputs in one panel

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Aborts on dtypes other than kF32 and kBF16.
size_t ElementBytes(DType dtype);
inline size_t PanelBytes(int inputs, DType dtype) {
  return size_t{kPanelOutputs} * inputs * ElementBytes(dtype);
}

size_t MatrixImageBytes(int outputs, int inputs, DType dtype);
void PackMatrixImage(absl::Span<const float> rows, int outputs, int inputs, DType dtype, void* dst);

// Offset of the down panels within a unit's image, and the whole.
size_t UnitDownOffset(const UnitShape& shape);
size_t UnitImageBytes(const UnitShape& shape);
void PackUnitImage(absl::Span<const float> gate, absl::Span<const float> up,
                   absl::Span<const float> down, const UnitShape& shape, void* dst);

// Output row `index` of a packed matrix, widened: out[inputs].
void UnpackRow(const Matrix& matrix, int64_t index, float* out);

}  // namespace pregate::cpu

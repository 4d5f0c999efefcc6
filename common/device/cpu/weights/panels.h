// The packed form of f32 and bf16 weights: panels of 32 outputs, each [inputs][32] elements, so that
// one pass over a panel streams it from memory in order. Outputs are padded with zeros to whole
// panels.
//
// An FFN unit is ceil(width / 16) panels over `hidden`, each of 16 gate and the same 16 up outputs,
// then the panels of down. All sections are multiples of 64 bytes.
//
// A lookup table is plain rows: of a panel a row would be every 32nd element.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/device/cpu/arithmetic.h"
#include "common/device/device.h"

namespace pregate::cpu {

inline constexpr int kPanelOutputs = 32;
inline constexpr int kPanelPairs = kPanelOutputs / 2;  // gate and up outputs in one panel

size_t MatrixImageBytes(int outputs, int inputs, WeightFormat format);
// Outputs first, first + 1, ..., and the zeros behind the last one.
void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape, void* image);

size_t UnitImageBytes(const UnitShape& shape);
void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first, const UnitShape& shape,
                  void* image);

// Where panel `index` starts: of a matrix (outputs 32 index ..), of a unit's gate and up (16 index
// .. of both), of a unit's down (outputs 32 index ..).
const void* MatrixPanel(const Matrix& matrix, int64_t index);
const void* GateUpPanel(const void* unit, const UnitShape& shape, int64_t index);
const void* DownPanel(const void* unit, const UnitShape& shape, int64_t index);

// Output row `index` of a packed matrix, widened: out[inputs].
void UnpackRow(const Matrix& matrix, int64_t index, float* out);

}  // namespace pregate::cpu

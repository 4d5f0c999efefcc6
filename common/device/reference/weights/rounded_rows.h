// The reference device's packed form of weights, the same for every format: rows of floats, rounded
// to what the format can hold. A unit is its gate, up and down rows, one after the other.
#pragma once

#include "absl/types/span.h"
#include "common/device/device.h"

namespace pregate::reference {

size_t RowsBytes(int outputs, int inputs);
// dst [rows.size()]
void PackRows(absl::Span<const float> rows, WeightFormat format, float* dst);
// Output row `index`: [matrix.inputs].
const float* MatrixRow(const Matrix& matrix, int64_t index);

struct UnitRows {
  const float *gate, *up, *down;  // [width, hidden], [width, hidden], [hidden, width]
};
UnitRows RowsOfUnit(const void* unit, const UnitShape& shape);

}  // namespace pregate::reference

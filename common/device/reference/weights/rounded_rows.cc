#include "common/device/reference/weights/rounded_rows.h"

#include <algorithm>

#include "common/device/rounding.h"

namespace pregate::reference {

size_t RowsBytes(int outputs, int inputs) { return sizeof(float) * outputs * inputs; }

void PackRows(absl::Span<const float> rows, WeightFormat format, float* dst) {
  std::transform(rows.begin(), rows.end(), dst, [&](float x) { return RoundTo(format, x); });
}

const float* MatrixRow(const Matrix& matrix, int64_t index) {
  return static_cast<const float*>(matrix.data) + index * matrix.inputs;
}

UnitRows RowsOfUnit(const void* unit, const UnitShape& shape) {
  const float* gate = static_cast<const float*>(unit);
  const int64_t part = int64_t{shape.width} * shape.hidden;
  return {gate, gate + part, gate + 2 * part};
}

}  // namespace pregate::reference

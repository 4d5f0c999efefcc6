// The reference device's packed form of weights, the same for every format: rows of floats, rounded
// to what the format can hold. A unit is its gate, up and down rows, one after the other.
#pragma once

#include "common/device/arrays.h"
#include "common/device/row_image.h"

namespace pregate::reference {

size_t RowsBytes(int outputs, int inputs);

class RoundedRows final : public RowLayout {
 public:
  RowSection MatrixSection(const Matrix& shape) const override;
  RowSection UnitSection(UnitTensor tensor, const UnitShape& shape) const override;

 private:
  void StoreRows(const WeightRows& rows, const RowSection& section, WeightFormat format,
                 std::byte* out) const override;
};

// Output row `index`: [matrix.inputs].
const float* MatrixRow(const Matrix& matrix, int64_t index);

struct UnitRows {
  const float *gate, *up, *down;  // [width, hidden], [width, hidden], [hidden, width]
};
UnitRows RowsOfUnit(const void* unit, const UnitShape& shape);

}  // namespace pregate::reference

#include "common/device/reference/weights/rounded_rows.h"

#include <algorithm>

#include "common/device/rounding.h"

namespace pregate::reference {

size_t RowsBytes(int outputs, int inputs) { return sizeof(float) * outputs * inputs; }

RowSection RoundedRows::MatrixSection(const Matrix& shape) const {
  return {0, RowsBytes(shape.outputs, shape.inputs), shape.outputs, shape.inputs,
          RowsBytes(1, shape.inputs)};
}

RowSection RoundedRows::UnitSection(UnitTensor tensor, const UnitShape& shape) const {
  const bool down = tensor == UnitTensor::kDown;
  const int outputs = down ? shape.hidden : shape.width, inputs = down ? shape.width : shape.hidden;
  const size_t bytes = RowsBytes(outputs, inputs), begin = bytes * static_cast<int>(tensor);
  return {begin, begin + bytes, outputs, inputs, RowsBytes(1, inputs)};
}

void RoundedRows::StoreRows(const WeightRows& rows, const RowSection&, WeightFormat format,
                            std::byte* out) const {
  float* dst = reinterpret_cast<float*>(out);
  if (const auto* bf16 = std::get_if<absl::Span<const uint16_t>>(&rows)) {
    std::transform(bf16->begin(), bf16->end(), dst, Bf16ToFloat);
    return;
  }
  const auto& values = std::get<absl::Span<const float>>(rows);
  std::transform(values.begin(), values.end(), dst, [&](float x) { return RoundTo(format, x); });
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

#include "common/device/cpu/panels.h"

#include <cstring>

#include "common/device/rounding.h"

namespace pregate::cpu {
namespace {

// Writes one panel whose column c is rows[c], zeros where that is null.
void PackPanel(const float* const rows[kPanelOutputs], int inputs, DType dtype, char* dst) {
  for (int c = 0; c < kPanelOutputs; ++c) {
    for (int64_t k = 0; k < inputs; ++k) {
      const float value = rows[c] == nullptr ? 0.0f : rows[c][k];
      const int64_t at = k * kPanelOutputs + c;
      if (dtype == DType::kBF16) {
        reinterpret_cast<uint16_t*>(dst)[at] = Bf16Bits(value);
      } else {
        reinterpret_cast<float*>(dst)[at] = value;
      }
    }
  }
}

}  // namespace

size_t ElementBytes(DType dtype) {
  PREGATE_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "dtype ", static_cast<int>(dtype));
  return dtype == DType::kBF16 ? 2 : 4;
}

size_t MatrixImageBytes(int outputs, int inputs, DType dtype) {
  return CeilDiv(outputs, kPanelOutputs) * PanelBytes(inputs, dtype);
}

void PackMatrixImage(absl::Span<const float> rows, int outputs, int inputs, DType dtype,
                     void* dst) {
  PREGATE_CHECK(rows.size() == static_cast<size_t>(outputs) * inputs, "rows ", rows.size());
  char* out = static_cast<char*>(dst);
  for (int64_t first = 0; first < outputs; first += kPanelOutputs) {
    const float* columns[kPanelOutputs];
    for (int c = 0; c < kPanelOutputs; ++c) {
      columns[c] = first + c < outputs ? rows.data() + (first + c) * inputs : nullptr;
    }
    PackPanel(columns, inputs, dtype, out);
    out += PanelBytes(inputs, dtype);
  }
}

size_t UnitDownOffset(const UnitShape& shape) {
  return CeilDiv(shape.width, kPanelPairs) * PanelBytes(shape.hidden, shape.dtype);
}

size_t UnitImageBytes(const UnitShape& shape) {
  return UnitDownOffset(shape) + MatrixImageBytes(shape.hidden, shape.width, shape.dtype);
}

void PackUnitImage(absl::Span<const float> gate, absl::Span<const float> up,
                   absl::Span<const float> down, const UnitShape& shape, void* dst) {
  const size_t elements = static_cast<size_t>(shape.width) * shape.hidden;
  PREGATE_CHECK(gate.size() == elements && up.size() == elements && down.size() == elements);
  char* out = static_cast<char*>(dst);
  for (int64_t first = 0; first < shape.width; first += kPanelPairs) {
    const float* columns[kPanelOutputs] = {};
    for (int64_t c = 0; c < kPanelPairs && first + c < shape.width; ++c) {
      columns[c] = gate.data() + (first + c) * shape.hidden;
      columns[kPanelPairs + c] = up.data() + (first + c) * shape.hidden;
    }
    PackPanel(columns, shape.hidden, shape.dtype, out);
    out += PanelBytes(shape.hidden, shape.dtype);
  }
  PackMatrixImage(down, shape.hidden, shape.width, shape.dtype, out);
}

void UnpackRow(const Matrix& matrix, int64_t index, float* out) {
  const char* panel = static_cast<const char*>(matrix.data) +
                      index / kPanelOutputs * PanelBytes(matrix.inputs, matrix.dtype);
  const int64_t column = index % kPanelOutputs;
  for (int64_t k = 0; k < matrix.inputs; ++k) {
    const int64_t at = k * kPanelOutputs + column;
    out[k] = matrix.dtype == DType::kBF16
                 ? Bf16ToFloat(reinterpret_cast<const uint16_t*>(panel)[at])
                 : reinterpret_cast<const float*>(panel)[at];
  }
}

}  // namespace pregate::cpu

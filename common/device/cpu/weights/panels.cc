#include "common/device/cpu/weights/panels.h"

#include "common/base/status.h"
#include "common/device/rounding.h"

namespace pregate::cpu {
namespace {

// Of the formats that lie so: a new one is a new case here, or has a file of its own.
size_t ValueBytes(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return 4;
    case WeightFormat::kBF16:
      return 2;
  }
  return 0;
}

size_t PanelBytes(int inputs, WeightFormat format) {
  return size_t{kPanelOutputs} * inputs * ValueBytes(format);
}

// Offset of the down panels within a unit's image.
size_t DownOffset(const UnitShape& shape) {
  return CeilDiv(shape.width, kPanelPairs) * PanelBytes(shape.hidden, shape.format);
}

// Writes one panel whose column c is rows[c], zeros where that is null.
void PackPanel(const float* const rows[kPanelOutputs], int inputs, WeightFormat format, char* dst) {
  for (int c = 0; c < kPanelOutputs; ++c) {
    for (int64_t k = 0; k < inputs; ++k) {
      const float value = rows[c] == nullptr ? 0.0f : rows[c][k];
      const int64_t at = k * kPanelOutputs + c;
      if (format == WeightFormat::kBF16) {
        reinterpret_cast<uint16_t*>(dst)[at] = Bf16Bits(value);
      } else {
        reinterpret_cast<float*>(dst)[at] = value;
      }
    }
  }
}

}  // namespace

size_t MatrixImageBytes(int outputs, int inputs, WeightFormat format) {
  return CeilDiv(outputs, kPanelOutputs) * PanelBytes(inputs, format);
}

void PackMatrixImage(absl::Span<const float> rows, int outputs, int inputs, WeightFormat format,
                     void* dst) {
  PREGATE_CHECK(rows.size() == static_cast<size_t>(outputs) * inputs, "rows ", rows.size());
  char* out = static_cast<char*>(dst);
  for (int64_t first = 0; first < outputs; first += kPanelOutputs) {
    const float* columns[kPanelOutputs];
    for (int c = 0; c < kPanelOutputs; ++c) {
      columns[c] = first + c < outputs ? rows.data() + (first + c) * inputs : nullptr;
    }
    PackPanel(columns, inputs, format, out);
    out += PanelBytes(inputs, format);
  }
}

size_t UnitImageBytes(const UnitShape& shape) {
  return DownOffset(shape) + MatrixImageBytes(shape.hidden, shape.width, shape.format);
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
    PackPanel(columns, shape.hidden, shape.format, out);
    out += PanelBytes(shape.hidden, shape.format);
  }
  PackMatrixImage(down, shape.hidden, shape.width, shape.format, out);
}

const void* MatrixPanel(const Matrix& matrix, int64_t index) {
  return static_cast<const char*>(matrix.data) + index * PanelBytes(matrix.inputs, matrix.format);
}

const void* GateUpPanel(const void* unit, const UnitShape& shape, int64_t index) {
  return static_cast<const char*>(unit) + index * PanelBytes(shape.hidden, shape.format);
}

const void* DownPanel(const void* unit, const UnitShape& shape, int64_t index) {
  return static_cast<const char*>(unit) + DownOffset(shape) +
         index * PanelBytes(shape.width, shape.format);
}

void UnpackRow(const Matrix& matrix, int64_t index, float* out) {
  const void* panel = MatrixPanel(matrix, index / kPanelOutputs);
  const int64_t column = index % kPanelOutputs;
  for (int64_t k = 0; k < matrix.inputs; ++k) {
    const int64_t at = k * kPanelOutputs + column;
    out[k] = matrix.format == WeightFormat::kBF16
                 ? Bf16ToFloat(static_cast<const uint16_t*>(panel)[at])
                 : static_cast<const float*>(panel)[at];
  }
}

}  // namespace pregate::cpu

#include "common/device/cpu/weights/panels.h"

#include <algorithm>
#include <cstring>

#include "common/base/status.h"
#include "common/device/cpu/weights/pack.h"
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

// Writes rows of `inputs` values as outputs first, first + 1, ... of panels that hold `per_panel`
// each, from column `column` on; behind the last of `outputs` zeros up to the panel's.
struct PanelRows {
  int outputs, inputs, per_panel, column;
  WeightFormat format;

  void Pack(const WeightRows& rows, int64_t first, char* panels) const {
    std::visit([&](auto values) { PackValues(values, first, panels); }, rows);
  }

  template <class T>
  void PackValues(absl::Span<const T> rows, int64_t first, char* panels) const {
    if (rows.empty()) return;
    const int64_t end = first + static_cast<int64_t>(rows.size()) / inputs;
    PREGATE_CHECK(end <= outputs && (end - first) * inputs == static_cast<int64_t>(rows.size()),
                  "rows ", first, "..", end, " of ", outputs);
    for (int64_t at = first, next; at < end; at = next) {
      const int64_t panel = at / per_panel;
      next = std::min<int64_t>(end, (panel + 1) * per_panel);
      char* columns = panels + panel * PanelBytes(inputs, format);
      const int64_t c = column + at % per_panel;
      PackColumns(rows.data() + (at - first) * inputs, static_cast<int>(next - at), inputs, format,
                  columns + c * ValueBytes(format));
      if (next < outputs || next % per_panel == 0) continue;
      const int rest = static_cast<int>(per_panel - next % per_panel);
      ClearColumns(rest, inputs, format,
                   columns + (column + next % per_panel) * ValueBytes(format));
    }
  }
};

// Plain rows, and zeros behind the last one up to the image's end.
void PackTable(const WeightRows& rows, int64_t first, const Matrix& shape, char* image) {
  const size_t value_bytes = ValueBytes(shape.format), begin = first * shape.inputs;
  std::visit([&](auto values) { PackRows(values, shape.format, image + begin * value_bytes); },
             rows);
  const size_t end = begin + NumElements(rows);
  if (end < size_t(shape.outputs) * shape.inputs) return;
  std::memset(image + end * value_bytes, 0,
              MatrixImageBytes(shape.outputs, shape.inputs, shape.format) - end * value_bytes);
}

}  // namespace

size_t MatrixImageBytes(int outputs, int inputs, WeightFormat format) {
  return CeilDiv(outputs, kPanelOutputs) * PanelBytes(inputs, format);
}

void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape, void* image) {
  char* out = static_cast<char*>(image);
  if (shape.lookup) return PackTable(rows, first, shape, out);
  const PanelRows panels = {shape.outputs, shape.inputs, kPanelOutputs, 0, shape.format};
  panels.Pack(rows, first, out);
}

size_t UnitImageBytes(const UnitShape& shape) {
  return DownOffset(shape) + MatrixImageBytes(shape.hidden, shape.width, shape.format);
}

void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first, const UnitShape& shape,
                  void* image) {
  char* out = static_cast<char*>(image);
  if (tensor == UnitTensor::kDown) {
    const Matrix down = {nullptr, shape.hidden, shape.width, shape.format};
    return PackMatrixRows(rows, first, down, out + DownOffset(shape));
  }
  const PanelRows panels = {shape.width, shape.hidden, kPanelPairs,
                            tensor == UnitTensor::kUp ? kPanelPairs : 0, shape.format};
  panels.Pack(rows, first, out);
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
  const char* values = static_cast<const char*>(
      matrix.lookup ? matrix.data : MatrixPanel(matrix, index / kPanelOutputs));
  const int64_t begin = matrix.lookup ? index * matrix.inputs : index % kPanelOutputs;
  const int64_t stride = matrix.lookup ? 1 : kPanelOutputs;
  for (int64_t k = 0; k < matrix.inputs; ++k) {
    const int64_t at = begin + k * stride;
    out[k] = matrix.format == WeightFormat::kBF16
                 ? Bf16ToFloat(reinterpret_cast<const uint16_t*>(values)[at])
                 : reinterpret_cast<const float*>(values)[at];
  }
}

}  // namespace pregate::cpu

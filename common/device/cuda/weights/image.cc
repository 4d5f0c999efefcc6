#include "common/device/cuda/weights/image.h"

#include <algorithm>
#include <cstring>

#include "common/base/status.h"
#include "common/device/rounding.h"

namespace pregate::cuda {
namespace {

size_t Align(size_t bytes) { return (bytes + 255) / 256 * 256; }

size_t RowBytes(int inputs, WeightFormat format) { return MatrixImageBytes(1, inputs, format); }

void StoreRow(absl::Span<const float> row, WeightFormat format, std::byte* out) {
  if (IsBf16(format)) {
    std::transform(row.begin(), row.end(), reinterpret_cast<uint16_t*>(out), Bf16Bits);
  } else {
    std::memcpy(out, row.data(), row.size() * sizeof(float));
  }
}

void StoreRow(absl::Span<const uint16_t> row, WeightFormat format, std::byte* out) {
  PREGATE_CHECK(IsBf16(format), "rows in bf16 for an image in f32");
  std::memcpy(out, row.data(), row.size() * sizeof(uint16_t));
}

}  // namespace

int64_t RowStride(int inputs, WeightFormat format) {
  const int64_t step = 16 / ElementBytes(format);
  return (inputs + step - 1) / step * step;
}

size_t MatrixImageBytes(int outputs, int inputs, WeightFormat format) {
  return static_cast<size_t>(outputs * RowStride(inputs, format) * ElementBytes(format));
}

UnitSections SectionsOf(const UnitShape& shape) {
  const size_t gate = Align(MatrixImageBytes(shape.width, shape.hidden, shape.format));
  const size_t down = Align(MatrixImageBytes(shape.hidden, shape.width, shape.format));
  return {gate, 2 * gate, 2 * gate + down};
}

RowSection PaddedRows::MatrixSection(const Matrix& shape) const {
  return {0, MatrixImageBytes(shape.outputs, shape.inputs, shape.format), shape.outputs,
          shape.inputs, RowBytes(shape.inputs, shape.format)};
}

RowSection PaddedRows::UnitSection(UnitTensor tensor, const UnitShape& shape) const {
  const UnitSections sections = SectionsOf(shape);
  if (tensor == UnitTensor::kDown) {
    return {sections.down, sections.end, shape.hidden, shape.width,
            RowBytes(shape.width, shape.format)};
  }
  const size_t begin = tensor == UnitTensor::kUp ? sections.up : 0;
  return {begin, begin + sections.up, shape.width, shape.hidden,
          RowBytes(shape.hidden, shape.format)};
}

void PaddedRows::StoreRows(const WeightRows& rows, const RowSection& section, WeightFormat format,
                           std::byte* out) const {
  const size_t stored = section.inputs * ElementBytes(format);
  const auto store = [&](auto values) {
    for (; !values.empty(); values.remove_prefix(section.inputs), out += section.row_bytes) {
      StoreRow(values.first(section.inputs), format, out);
      std::memset(out + stored, 0, section.row_bytes - stored);
    }
  };
  std::visit(store, rows);
}

}  // namespace pregate::cuda

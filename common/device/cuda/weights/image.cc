#include "common/device/cuda/weights/image.h"

#include <algorithm>
#include <cstring>

#include "common/base/status.h"
#include "common/device/rounding.h"

namespace pregate::cuda {
namespace {

size_t Align(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

int64_t RowStride(int inputs, WeightFormat format) {
  const int64_t step = 16 / ElementBytes(format);
  return (inputs + step - 1) / step * step;
}

size_t MatrixImageBytes(int outputs, int inputs, WeightFormat format) {
  return static_cast<size_t>(outputs * RowStride(inputs, format) * ElementBytes(format));
}

void PackMatrixRows(absl::Span<const float> rows, int64_t first, int inputs, WeightFormat format,
                    void* host_image) {
  if (rows.empty()) return;
  const int64_t stride = RowStride(inputs, format), num_rows = rows.size() / inputs;
  for (int64_t r = 0; r < num_rows; ++r) {
    const float* row = rows.data() + r * inputs;
    const int64_t at = (first + r) * stride;
    if (IsBf16(format)) {
      uint16_t* out = static_cast<uint16_t*>(host_image) + at;
      std::fill(std::transform(row, row + inputs, out, Bf16Bits), out + stride, uint16_t{0});
    } else {
      float* out = static_cast<float*>(host_image) + at;
      std::fill(std::copy_n(row, inputs, out), out + stride, 0.0f);
    }
  }
}

UnitSections SectionsOf(const UnitShape& shape) {
  const size_t gate = Align(MatrixImageBytes(shape.width, shape.hidden, shape.format));
  const size_t down = Align(MatrixImageBytes(shape.hidden, shape.width, shape.format));
  return {gate, 2 * gate, 2 * gate + down};
}

void PackUnitRows(UnitTensor tensor, absl::Span<const float> rows, int64_t first,
                  const UnitShape& shape, void* host_image) {
  if (rows.empty()) return;
  const UnitSections sections = SectionsOf(shape);
  const bool down = tensor == UnitTensor::kDown;
  const int outputs = down ? shape.hidden : shape.width, inputs = down ? shape.width : shape.hidden;
  const size_t begin = down ? sections.down : tensor == UnitTensor::kUp ? sections.up : 0;
  const size_t end = down ? sections.end : begin + sections.up;
  char* section = static_cast<char*>(host_image) + begin;
  PackMatrixRows(rows, first, inputs, shape.format, section);
  if (first + static_cast<int64_t>(rows.size()) / inputs < outputs) return;
  const size_t written = MatrixImageBytes(outputs, inputs, shape.format);
  std::memset(section + written, 0, end - begin - written);
}

}  // namespace pregate::cuda

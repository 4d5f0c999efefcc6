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

void PackMatrixImage(absl::Span<const float> rows, int outputs, int inputs, WeightFormat format,
                     void* host_dst) {
  PREGATE_CHECK(rows.size() == static_cast<size_t>(outputs) * inputs, "values ", rows.size(),
                " for ", outputs, " x ", inputs);
  const int64_t stride = RowStride(inputs, format);
  std::memset(host_dst, 0, MatrixImageBytes(outputs, inputs, format));
  for (int64_t o = 0; o < outputs; ++o) {
    const float* row = rows.data() + o * inputs;
    if (IsBf16(format)) {
      std::transform(row, row + inputs, static_cast<uint16_t*>(host_dst) + o * stride, Bf16Bits);
    } else {
      std::copy_n(row, inputs, static_cast<float*>(host_dst) + o * stride);
    }
  }
}

UnitSections SectionsOf(const UnitShape& shape) {
  const size_t gate = Align(MatrixImageBytes(shape.width, shape.hidden, shape.format));
  const size_t down = Align(MatrixImageBytes(shape.hidden, shape.width, shape.format));
  return {gate, 2 * gate, 2 * gate + down};
}

void PackUnitImage(absl::Span<const float> gate, absl::Span<const float> up,
                   absl::Span<const float> down, const UnitShape& shape, void* host_dst) {
  const UnitSections sections = SectionsOf(shape);
  char* dst = static_cast<char*>(host_dst);
  std::memset(dst, 0, sections.end);
  PackMatrixImage(gate, shape.width, shape.hidden, shape.format, dst);
  PackMatrixImage(up, shape.width, shape.hidden, shape.format, dst + sections.up);
  PackMatrixImage(down, shape.hidden, shape.width, shape.format, dst + sections.down);
}

}  // namespace pregate::cuda

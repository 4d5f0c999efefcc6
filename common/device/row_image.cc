#include "common/device/row_image.h"

#include <cstring>

#include "common/base/status.h"

namespace pregate {

ByteRange RangeOf(const RowSection& section, int64_t first, int64_t n) {
  PREGATE_CHECK(first >= 0 && n >= 0 && first + n <= section.num_rows, "rows ", first, " + ", n,
                " of ", section.num_rows);
  return {section.begin + first * section.row_bytes,
          first + n == section.num_rows ? section.end
                                        : section.begin + (first + n) * section.row_bytes};
}

void RowLayout::PackRows(const WeightRows& rows, int64_t first, const RowSection& section,
                         WeightFormat format, std::byte* out) const {
  const int64_t elements = NumElements(rows);
  if (elements == 0) return;
  PREGATE_CHECK(elements % section.inputs == 0, "elements ", elements, " in rows of ",
                section.inputs);
  const int64_t n = elements / section.inputs;
  StoreRows(rows, section, format, out);
  if (first + n == section.num_rows) {
    std::memset(out + n * section.row_bytes, 0, section.padding());
  }
}

namespace {

// Rows of an image that is whole at `host_image`.
void PackInPlace(const RowLayout& layout, const WeightRows& rows, int64_t first,
                 const RowSection& section, WeightFormat format, void* host_image) {
  if (NumElements(rows) == 0) return;
  const ByteRange range = RangeOf(section, first, NumElements(rows) / section.inputs);
  layout.PackRows(rows, first, section, format, static_cast<std::byte*>(host_image) + range.begin);
}

}  // namespace

void RowLayout::PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                               void* host_image) const {
  PackInPlace(*this, rows, first, MatrixSection(shape), shape.format, host_image);
}

void RowLayout::PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                             const UnitShape& shape, void* host_image) const {
  PackInPlace(*this, rows, first, UnitSection(tensor, shape), shape.format, host_image);
}

}  // namespace pregate

// Images in which a tensor's rows lie one after the other, as on a card and on the reference device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/device/arrays.h"
#include "common/model/spec/weight_rows.h"

namespace pregate {

// A tensor's place in an image, in bytes from the image's start. What pads a row up to `row_bytes`,
// and what lies between the last row and the end, are zeros.
struct RowSection {
  size_t begin = 0, end = 0;
  int64_t num_rows = 0;
  int inputs = 0;        // elements of a row
  size_t row_bytes = 0;  // from one row to the next

  // Bytes behind the last row.
  size_t padding() const { return end - begin - num_rows * row_bytes; }
};

struct ByteRange {
  size_t begin, end;
};
// What rows first .. first + n - 1 fill: with the last row what pads the section.
ByteRange RangeOf(const RowSection& section, int64_t first, int64_t n);

// A device's way of laying out such images. Thread-safe. Rows are those of `section`, the first of them
// number `first`, and in a type that `format` may be packed from (Device::PackMatrixRows).
class RowLayout {
 public:
  virtual ~RowLayout() = default;

  virtual RowSection MatrixSection(const Matrix& shape) const = 0;
  virtual RowSection UnitSection(UnitTensor tensor, const UnitShape& shape) const = 0;

  // Writes the range of these rows to `out`.
  void PackRows(const WeightRows& rows, int64_t first, const RowSection& section,
                WeightFormat format, std::byte* out) const;
  // Device::PackMatrixRows and PackUnitRows.
  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* host_image) const;
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* host_image) const;

 private:
  // Whole rows, each with what pads it.
  virtual void StoreRows(const WeightRows& rows, const RowSection& section, WeightFormat format,
                         std::byte* out) const = 0;
};

}  // namespace pregate

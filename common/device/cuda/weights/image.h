// How f32 and bf16 matrices and units lie in the card's memory: plain rows of rounded elements, each
// row padded with zeros to 16 bytes; a unit is gate, up and down, each section aligned to 256 bytes.
#pragma once

#include <cstdint>

#include "common/device/arrays.h"
#include "common/device/row_image.h"

namespace pregate::cuda {

// Of the formats that lie so: a new one is a new case here, or does not come here.
inline bool IsBf16(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return false;
    case WeightFormat::kBF16:
      return true;
  }
  return false;
}
inline int64_t ElementBytes(WeightFormat format) { return IsBf16(format) ? 2 : 4; }

// Elements from one row to the next.
int64_t RowStride(int inputs, WeightFormat format);
size_t MatrixImageBytes(int outputs, int inputs, WeightFormat format);

struct UnitSections {
  size_t up, down, end;  // bytes from the image's start; gate is at 0
};
UnitSections SectionsOf(const UnitShape& shape);

class PaddedRows final : public RowLayout {
 public:
  RowSection MatrixSection(const Matrix& shape) const override;
  RowSection UnitSection(UnitTensor tensor, const UnitShape& shape) const override;

 private:
  void StoreRows(const WeightRows& rows, const RowSection& section, WeightFormat format,
                 std::byte* out) const override;
};

}  // namespace pregate::cuda

#include "common/device/cuda/weights/image.h"
#include "common/device/layout_under_test.h"

namespace pregate {

const RowLayout& LayoutUnderTest() {
  static const cuda::PaddedRows layout;
  return layout;
}

}  // namespace pregate

#include "common/device/layout_under_test.h"
#include "common/device/reference/weights/rounded_rows.h"

namespace pregate {

const RowLayout& LayoutUnderTest() {
  static const reference::RoundedRows layout;
  return layout;
}

}  // namespace pregate

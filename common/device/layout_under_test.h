// An executable with staged_writer_test.cc links one definition (the reference device's:
// reference/reference_layout.cc).
#pragma once

#include "common/device/row_image.h"

namespace pregate {

const RowLayout& LayoutUnderTest();

}  // namespace pregate

// One FFN part (an expert's own neurons in one layer, or a layer's shared part) in a device's
// packed form. Only the format's packer and kernels know what is inside; everyone else moves opaque
// bytes (docs/CONTRACTS.md, "Unit image").
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/device/device.h"

namespace pregate {

struct UnitHeader {
  UnitShape shape;  // its format is the image's
  size_t bytes = 0;
  // XXH3 of the image, in hex: tells a damaged or mixed-up one from a whole one; no defence against
  // intent.
  std::string checksum;
};

// Of a packed unit.
UnitHeader DescribeUnit(const UnitShape& shape, absl::Span<const std::byte> data);

// DATA_LOSS, with both sums, when `data` is not what the header describes.
absl::Status VerifyUnit(const UnitHeader& header, absl::Span<const std::byte> data);

}  // namespace pregate

// One FFN part (an expert's own neurons in one layer, or a layer's resident part) in a device's
// packed form. Only the format's packer and kernels know what is inside; everyone else moves opaque
// bytes (docs/CONTRACTS.md, "Unit image").
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/device/device.h"

namespace pregate {

struct UnitHeader {
  std::string format;  // the numerics id of the device that packed it
  UnitShape shape;
  size_t bytes = 0;
  uint64_t checksum = 0;  // UnitChecksum of the image
};

struct UnitImage {
  UnitHeader header;
  std::vector<std::byte> data;  // [header.bytes]
};

// gate, up [width, hidden], down [hidden, width], rows first.
UnitImage PackUnitImage(const Device& device, const UnitShape& shape, absl::Span<const float> gate,
                        absl::Span<const float> up, absl::Span<const float> down);

// Tells a damaged or mixed-up image from a whole one; no defence against intent. FNV-1a over 64-bit
// words.
uint64_t UnitChecksum(absl::Span<const std::byte> data);

// DATA_LOSS, with both sums, when `data` is not what the header describes.
absl::Status VerifyUnit(const UnitHeader& header, absl::Span<const std::byte> data);

}  // namespace pregate

#include "expert_service/engine/unit_image.h"

#include <cstring>

#include "common/base/status.h"

namespace pregate {

UnitImage PackUnitImage(const Device& device, const UnitShape& shape, absl::Span<const float> gate,
                        absl::Span<const float> up, absl::Span<const float> down) {
  UnitImage image;
  image.header = {device.numerics_id(shape.dtype), shape, device.UnitBytes(shape), 0};
  image.data.resize(image.header.bytes);
  device.PackUnit(gate, up, down, shape, image.data.data());
  image.header.checksum = UnitChecksum(image.data);
  return image;
}

uint64_t UnitChecksum(absl::Span<const std::byte> data) {
  uint64_t sum = 0xcbf29ce484222325;
  for (size_t i = 0; i < data.size(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, data.data() + i, std::min(sizeof(word), data.size() - i));
    sum = (sum ^ word) * 0x100000001b3;
    sum ^= sum >> 32;  // else the low bits never see the high bytes
  }
  return sum;
}

absl::Status VerifyUnit(const UnitHeader& header, absl::Span<const std::byte> data) {
  if (data.size() != header.bytes) {
    return absl::DataLossError(
        absl::StrCat("unit image has ", data.size(), " bytes, its header says ", header.bytes));
  }
  const uint64_t sum = UnitChecksum(data);
  if (sum == header.checksum) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("unit image has checksum ", absl::Hex(sum),
                                          ", its header says ", absl::Hex(header.checksum)));
}

}  // namespace pregate

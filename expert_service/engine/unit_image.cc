#include "expert_service/engine/unit_image.h"

#include <string_view>

#include "common/base/hash.h"
#include "common/base/status.h"

namespace pregate {
namespace {

std::string Checksum(absl::Span<const std::byte> data) {
  return Xxh3Hex({reinterpret_cast<const char*>(data.data()), data.size()});
}

}  // namespace

UnitHeader DescribeUnit(const UnitShape& shape, absl::Span<const std::byte> data) {
  return {shape, data.size(), Checksum(data)};
}

absl::Status VerifyUnit(const UnitHeader& header, absl::Span<const std::byte> data) {
  if (data.size() != header.bytes) {
    return absl::DataLossError(
        absl::StrCat("unit image has ", data.size(), " bytes, its header says ", header.bytes));
  }
  const std::string sum = Checksum(data);
  if (sum == header.checksum) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("unit image has checksum ", sum, ", its header says ", header.checksum));
}

}  // namespace pregate

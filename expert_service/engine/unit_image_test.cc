#include "expert_service/engine/unit_image.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/device/reference/reference_device.h"

namespace pregate {
namespace {

struct UnitImage {
  UnitHeader header;
  std::vector<std::byte> data;
};

UnitImage MakeImage() {
  const UnitShape shape{3, 4, WeightFormat::kBF16};
  std::vector<float> gate(12), up(12), down(12);
  for (int i = 0; i < 12; ++i) gate[i] = i, up[i] = -i, down[i] = 0.5f * i;
  const auto device = MakeReferenceDevice();
  std::vector<std::byte> data(device->UnitBytes(shape));
  device->PackUnit(gate, up, down, shape, data.data());
  return {DescribeUnit(shape, data), data};
}

TEST(UnitImageTest, HeaderDescribesTheImage) {
  const UnitImage image = MakeImage();
  EXPECT_EQ(image.header.bytes, image.data.size());
  EXPECT_EQ(image.header.shape.width, 3);
  EXPECT_TRUE(VerifyUnit(image.header, image.data).ok());
}

TEST(UnitImageTest, AnyFlippedBitIsFound) {
  UnitImage image = MakeImage();
  for (size_t i = 0; i < image.data.size(); ++i) {
    const std::byte bit{static_cast<unsigned char>(1 << (i % 8))};
    image.data[i] ^= bit;
    EXPECT_EQ(VerifyUnit(image.header, image.data).code(), absl::StatusCode::kDataLoss)
        << "byte " << i;
    image.data[i] ^= bit;
  }
}

TEST(UnitImageTest, AMissingByteIsFound) {
  UnitImage image = MakeImage();
  image.data.pop_back();
  EXPECT_EQ(VerifyUnit(image.header, image.data).code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace pregate

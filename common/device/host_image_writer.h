// The writer of images in memory that the host writes: of a device that has no other, and of images
// that stay on the host.
#pragma once

#include "common/device/device.h"

namespace pregate {

class HostImageWriter final : public ImageWriter {
 public:
  explicit HostImageWriter(const Device* device) : device_(*device) {}

  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* image) override {
    device_.PackMatrixRows(rows, first, shape, image);
  }
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* image) override {
    device_.PackUnitRows(tensor, rows, first, shape, image);
  }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  const Device& device_;
};

}  // namespace pregate

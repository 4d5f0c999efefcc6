// How the rows of weights become images in a device's memory.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "common/device/arrays.h"
#include "common/model/spec/weight_rows.h"

namespace pregate {

// Used by one thread at a time, any thread, beside the one that enqueues operations: those that
// follow Finish find the images. Made and destroyed by the thread that enqueues.
class ImageWriter {
 public:
  virtual ~ImageWriter() = default;

  // As Device::PackMatrixRows and PackUnitRows; `image` is the address in the device's memory. The
  // rows may change when the call returns, which may wait for earlier ones to be brought there.
  virtual void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                              void* image) = 0;
  virtual void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                            const UnitShape& shape, void* image) = 0;
  // Waits until all is there. Reports errors since the last call.
  virtual absl::Status Finish() = 0;
};

}  // namespace pregate

// Tensors of a checkpoint as packed images of a device: a few rows at a time are decoded, compared
// with their checksum and packed, so that no tensor is ever whole in f32.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate {

// A tensor with `outputs` rows of a matrix.
struct MatrixPart {
  std::string name;
  int outputs = 0;
};

// Reads from one checkpoint for one device. Thread-safe.
class ImageReader {
 public:
  // Both outlive it.
  ImageReader(const Checkpoint& checkpoint, const Device& device)
      : checkpoint_(checkpoint), device_(device) {}

  // The parts' rows one after the other, as the image of a matrix of this shape. `rows_read` counts
  // up meanwhile.
  absl::Status ReadMatrix(absl::Span<const MatrixPart> parts, const Matrix& shape, void* host_image,
                          std::atomic<int64_t>& rows_read) const;
  // The tensors {gate,up,down}_proj.weight below `prefix` as the image of a unit.
  absl::Status ReadUnit(const std::string& prefix, const UnitShape& shape, void* host_image,
                        std::atomic<int64_t>& rows_read) const;

 private:
  const Checkpoint& checkpoint_;
  const Device& device_;
};

}  // namespace pregate

// Tensors of a checkpoint as packed images of a device: a few rows at a time are compared with their
// checksum, decoded where they are not stored in the type that they are packed from, and packed. No
// tensor is ever whole on the way.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/device/image_writer.h"
#include "common/model/formats/checkpoint.h"
#include "expert_service/engine/progress.h"

namespace pregate {

// A tensor with `outputs` rows of a matrix.
struct MatrixPart {
  std::string name;
  int outputs = 0;
};

// Reads from one checkpoint. Thread-safe.
class ImageReader {
 public:
  explicit ImageReader(const Checkpoint* checkpoint) : checkpoint_(*checkpoint) {}

  // The parts' rows one after the other, as the image of a matrix of this shape at `image`. ABORTED
  // soon after the meter says that it is stopped.
  absl::Status ReadMatrix(absl::Span<const MatrixPart> parts, const Matrix& shape,
                          ImageWriter& writer, void* image, LoadMeter& meter) const;
  // The tensors {gate,up,down}_proj.weight below `prefix` as the image of a unit.
  absl::Status ReadUnit(const std::string& prefix, const UnitShape& shape, ImageWriter& writer,
                        void* image, LoadMeter& meter) const;

 private:
  const Checkpoint& checkpoint_;
};

}  // namespace pregate

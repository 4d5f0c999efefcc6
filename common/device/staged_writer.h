// Writes images into memory that the host does not write: rows are packed into segments of memory
// that it does, one after the other, and each full one is copied.
#pragma once

#include <cstddef>
#include <memory>

#include "common/device/image_writer.h"
#include "common/device/row_image.h"

namespace pregate {

// The longest row that a model may have in f32, and what may pad the tensor behind it.
inline constexpr size_t kStagedSegmentBytes = (size_t{4} << 20) + 256;

// Segments and their copies. Used as the writer that owns it.
class Staging {
 public:
  virtual ~Staging() = default;
  // The next segment. Waits until the copy from it before is done.
  virtual std::byte* Take() = 0;
  // Copies the first `bytes` of the segment taken last to the device's memory, some time until
  // Finish. It is not written again until it is taken again.
  virtual void Copy(void* dst, size_t bytes) = 0;
  // Waits for all copies. The first error since the last call.
  virtual absl::Status Finish() = 0;
};

class StagedImageWriter final : public ImageWriter {
 public:
  // `layout` outlives it.
  StagedImageWriter(const RowLayout* layout, std::unique_ptr<Staging> staging,
                    size_t segment_bytes = kStagedSegmentBytes);

  void PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                      void* image) override;
  void PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                    const UnitShape& shape, void* image) override;
  absl::Status Finish() override;

 private:
  void Pack(const WeightRows& rows, int64_t first, const RowSection& section, WeightFormat format,
            void* image);
  // Where the bytes for this range of `image` are to be written now.
  std::byte* Room(std::byte* image, ByteRange range);
  void Send();

  const RowLayout& layout_;
  const std::unique_ptr<Staging> staging_;
  const size_t segment_bytes_;
  std::byte* segment_ = nullptr;  // the one that is being filled, if any
  std::byte* image_ = nullptr;    // of which its bytes are,
  std::byte* dst_ = nullptr;      // and where they belong
  size_t used_ = 0;
};

}  // namespace pregate

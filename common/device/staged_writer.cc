#include "common/device/staged_writer.h"

#include <algorithm>

#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {

static_assert(std::max({kFfnWidthMax, kHiddenMax, kHeadsMax* kHeadDimMax}) * sizeof(float) + 256 <=
                  kStagedSegmentBytes,
              "a row of any matrix fits a segment");

StagedImageWriter::StagedImageWriter(const RowLayout* layout, std::unique_ptr<Staging> staging,
                                     size_t segment_bytes)
    : layout_(*layout), staging_(std::move(staging)), segment_bytes_(segment_bytes) {}

void StagedImageWriter::PackMatrixRows(const WeightRows& rows, int64_t first, const Matrix& shape,
                                       void* image) {
  Pack(rows, first, layout_.MatrixSection(shape), shape.format, image);
}

void StagedImageWriter::PackUnitRows(UnitTensor tensor, const WeightRows& rows, int64_t first,
                                     const UnitShape& shape, void* image) {
  Pack(rows, first, layout_.UnitSection(tensor, shape), shape.format, image);
}

absl::Status StagedImageWriter::Finish() {
  Send();
  return staging_->Finish();
}

void StagedImageWriter::Pack(const WeightRows& rows, int64_t first, const RowSection& section,
                             WeightFormat format, void* image) {
  const int64_t elements = NumElements(rows);
  if (elements == 0) return;
  const int64_t num_rows = elements / section.inputs;
  const int64_t most =
      std::max<int64_t>(1, (segment_bytes_ - section.padding()) / section.row_bytes);
  for (int64_t r = 0; r < num_rows; r += most) {
    const int64_t n = std::min(most, num_rows - r);
    const ByteRange range = RangeOf(section, first + r, n);
    layout_.PackRows(SomeElements(rows, r * section.inputs, n * section.inputs), first + r, section,
                     format, Room(static_cast<std::byte*>(image), range));
  }
}

std::byte* StagedImageWriter::Room(std::byte* image, ByteRange range) {
  const size_t bytes = range.end - range.begin;
  std::byte* const dst = image + range.begin;
  PREGATE_CHECK(bytes <= segment_bytes_, "rows of ", bytes, " bytes, segments of ", segment_bytes_);
  // One image may lie right behind another, but a copy is within one piece of memory.
  const bool goes_on = image == image_ && dst == dst_ + used_ && used_ + bytes <= segment_bytes_;
  if (segment_ != nullptr && !goes_on) Send();
  if (segment_ == nullptr) {
    segment_ = staging_->Take();
    image_ = image;
    dst_ = dst;
    used_ = 0;
  }
  std::byte* const room = segment_ + used_;
  used_ += bytes;
  return room;
}

void StagedImageWriter::Send() {
  if (segment_ == nullptr) return;
  staging_->Copy(dst_, used_);
  segment_ = nullptr;
}

}  // namespace pregate

// Images that are written through segments are those that are packed where they stay. A device's
// folder links this with its layout.
#include "common/device/staged_writer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "common/device/layout_under_test.h"
#include "common/device/rounding.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

// Copies as late as it may, and gives segments whose old bytes are gone.
class TestStaging final : public Staging {
 public:
  TestStaging(size_t segment_bytes, size_t num_segments)
      : segment_bytes_(segment_bytes), segments_(num_segments) {
    for (Segment& segment : segments_) segment.bytes.resize(segment_bytes);
  }

  std::byte* Take() override {
    current_ = (current_ + 1) % segments_.size();
    Settle(segments_[current_]);
    std::fill(segments_[current_].bytes.begin(), segments_[current_].bytes.end(), std::byte{0xEE});
    return segments_[current_].bytes.data();
  }
  void Copy(void* dst, size_t bytes) override {
    EXPECT_GT(bytes, 0u);
    EXPECT_LE(bytes, segment_bytes_);
    segments_[current_].dst = dst;
    segments_[current_].to_copy = bytes;
    ++num_copies;
  }
  absl::Status Finish() override {
    for (Segment& segment : segments_) Settle(segment);
    return std::exchange(error, absl::OkStatus());
  }

  int64_t num_copies = 0;
  absl::Status error;

 private:
  struct Segment {
    std::vector<std::byte> bytes;
    void* dst = nullptr;
    size_t to_copy = 0;
  };
  void Settle(Segment& segment) {
    if (segment.to_copy > 0) std::memcpy(segment.dst, segment.bytes.data(), segment.to_copy);
    segment.to_copy = 0;
  }
  const size_t segment_bytes_;
  std::vector<Segment> segments_;
  size_t current_ = 0;
};

class StagedWriterTest : public testing::Test {
 protected:
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  void MakeWriter(size_t segment_bytes) {
    auto staging = std::make_unique<TestStaging>(segment_bytes, Int(1, 4));
    staging_ = staging.get();
    writer_ = std::make_unique<StagedImageWriter>(&layout_, std::move(staging), segment_bytes);
  }
  // Of a matrix [rows, inputs]; in bf16 where the image may be given that.
  WeightRows RandomRows(int64_t elements, WeightFormat format) {
    values_.resize(elements);
    for (float& x : values_) x = std::normal_distribution<float>()(random_);
    if (format != WeightFormat::kBF16 || Int(0, 1) == 0) return absl::MakeConstSpan(values_);
    bf16_.resize(elements);
    std::transform(values_.begin(), values_.end(), bf16_.begin(), Bf16Bits);
    return absl::MakeConstSpan(bf16_);
  }
  // Hands the rows to `pack` in pieces, in order or not.
  void InPieces(const WeightRows& rows, int num_rows, int inputs, bool ordered, auto pack) {
    std::vector<int> cuts = {0, num_rows};
    for (int i = Int(0, 6); i > 0; --i) cuts.push_back(Int(0, num_rows));
    std::sort(cuts.begin(), cuts.end());
    std::vector<int> order(cuts.size() - 1);
    std::iota(order.begin(), order.end(), 0);
    if (!ordered) std::shuffle(order.begin(), order.end(), random_);
    for (const int i : order) {
      pack(SomeElements(rows, int64_t{cuts[i]} * inputs, int64_t{cuts[i + 1] - cuts[i]} * inputs),
           cuts[i]);
    }
  }
  size_t RowBytes(int inputs, WeightFormat format) {
    return layout_.MatrixSection({nullptr, 1, inputs, format}).row_bytes;
  }

  const uint64_t seed_ = std::random_device()();
  std::mt19937_64 random_{seed_};
  testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  const RowLayout& layout_ = LayoutUnderTest();
  TestStaging* staging_ = nullptr;
  std::unique_ptr<StagedImageWriter> writer_;
  std::vector<float> values_;
  std::vector<uint16_t> bf16_;
};

TEST_F(StagedWriterTest, MatricesAreThoseThatArePackedInPlace) {
  for (int trial = 0; trial < 300; ++trial) {
    const WeightFormat format = Int(0, 1) == 0 ? WeightFormat::kF32 : WeightFormat::kBF16;
    const Matrix shape = {nullptr, Int(1, 90), Int(1, 50), format};
    const size_t bytes = layout_.MatrixSection(shape).end;
    MakeWriter(RowBytes(shape.inputs, format) * Int(1, 9) + Int(0, 20));
    const WeightRows rows = RandomRows(int64_t{shape.outputs} * shape.inputs, format);
    std::vector<std::byte> whole(bytes, std::byte{1}), staged(bytes, std::byte{2});
    layout_.PackMatrixRows(rows, 0, shape, whole.data());
    InPieces(rows, shape.outputs, shape.inputs, trial % 2 == 0, [&](const WeightRows& part, int r) {
      writer_->PackMatrixRows(part, r, shape, staged.data());
    });
    ASSERT_TRUE(writer_->Finish().ok());
    EXPECT_EQ(staged, whole) << shape.outputs << " x " << shape.inputs;
  }
}

// One writer makes one image after the other, and may leave one for a while.
TEST_F(StagedWriterTest, UnitsAreThoseThatArePackedInPlace) {
  for (int trial = 0; trial < 100; ++trial) {
    const WeightFormat format = Int(0, 1) == 0 ? WeightFormat::kF32 : WeightFormat::kBF16;
    const UnitShape shape = {Int(1, 60), Int(1, 60), format};
    const size_t bytes = layout_.UnitSection(UnitTensor::kDown, shape).end;
    MakeWriter(RowBytes(std::max(shape.width, shape.hidden), format) * Int(1, 9) + 256);
    std::vector<std::byte> whole[2], staged[2];
    for (int u : {0, 1}) {
      whole[u].assign(bytes, std::byte{1});
      staged[u].assign(bytes, std::byte{2});
    }
    for (const UnitTensor tensor : {UnitTensor::kGate, UnitTensor::kUp, UnitTensor::kDown}) {
      const bool down = tensor == UnitTensor::kDown;
      const int outputs = down ? shape.hidden : shape.width;
      const int inputs = down ? shape.width : shape.hidden;
      for (int u : {0, 1}) {
        const WeightRows rows = RandomRows(int64_t{outputs} * inputs, format);
        layout_.PackUnitRows(tensor, rows, 0, shape, whole[u].data());
        InPieces(rows, outputs, inputs, trial % 2 == 0, [&](const WeightRows& part, int r) {
          writer_->PackUnitRows(tensor, part, r, shape, staged[u].data());
        });
      }
    }
    ASSERT_TRUE(writer_->Finish().ok());
    EXPECT_EQ(staged[0], whole[0]);
    EXPECT_EQ(staged[1], whole[1]);
  }
}

TEST_F(StagedWriterTest, PiecesThatFollowOneAnotherFillASegment) {
  constexpr int kRows = 64, kInputs = 16;
  const Matrix shape = {nullptr, kRows, kInputs, WeightFormat::kF32};
  MakeWriter(RowBytes(kInputs, shape.format) * 16);
  const WeightRows rows = RandomRows(kRows * kInputs, shape.format);
  std::vector<std::byte> image(layout_.MatrixSection(shape).end);
  for (int r = 0; r < kRows; r += 4) {
    writer_->PackMatrixRows(SomeElements(rows, r * kInputs, 4 * kInputs), r, shape, image.data());
  }
  ASSERT_TRUE(writer_->Finish().ok());
  EXPECT_EQ(staging_->num_copies, kRows / 16);
}

// They may be two pieces of memory, which no copy of a card's reaches across.
TEST_F(StagedWriterTest, AnImageRightBehindAnotherIsACopyOfItsOwn) {
  constexpr int kRows = 8, kInputs = 16;
  const Matrix shape = {nullptr, kRows, kInputs, WeightFormat::kF32};
  const size_t bytes = layout_.MatrixSection(shape).end;
  MakeWriter(bytes * 4);
  std::vector<std::byte> images(2 * bytes), whole(2 * bytes);
  for (const size_t at : {size_t{0}, bytes}) {
    const WeightRows rows = RandomRows(kRows * kInputs, shape.format);
    layout_.PackMatrixRows(rows, 0, shape, whole.data() + at);
    writer_->PackMatrixRows(rows, 0, shape, images.data() + at);
  }
  ASSERT_TRUE(writer_->Finish().ok());
  EXPECT_EQ(staging_->num_copies, 2);
  EXPECT_EQ(images, whole);
}

TEST_F(StagedWriterTest, NothingIsAnImageWithoutRows) {
  MakeWriter(1024);
  writer_->PackUnitRows(UnitTensor::kGate, WeightRows(), 0, {0, 8, WeightFormat::kF32}, nullptr);
  writer_->PackUnitRows(UnitTensor::kDown, WeightRows(), 0, {0, 8, WeightFormat::kF32}, nullptr);
  EXPECT_TRUE(writer_->Finish().ok());
  EXPECT_EQ(staging_->num_copies, 0);
}

TEST_F(StagedWriterTest, ErrorsOfTheCopiesAreToldOnce) {
  MakeWriter(1024);
  staging_->error = absl::InternalError("the link is gone");
  EXPECT_EQ(writer_->Finish().message(), "the link is gone");
  EXPECT_TRUE(writer_->Finish().ok());
}

}  // namespace
}  // namespace pregate

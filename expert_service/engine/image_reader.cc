#include "expert_service/engine/image_reader.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

// As many as fill a panel of the CPU's packed form, and few enough to stay in a core's cache.
constexpr int kPieceRows = 32;

}  // namespace

absl::Status ImageReader::ReadMatrix(absl::Span<const MatrixPart> parts, const Matrix& shape,
                                     ImageWriter& writer, void* image, LoadMeter& meter) const {
  int64_t begin = 0;
  for (const MatrixPart& part : parts) {
    const auto pack = [&](int64_t first, const WeightRows& rows) {
      writer.PackMatrixRows(rows, begin + first, shape, image);
      meter.rows += kPieceRows;
      return !meter.is_stopped;
    };
    RETURN_IF_ERROR(checkpoint_.ReadRows(
        {part.name, part.outputs, shape.inputs, ValueType(shape.format), kPieceRows}, pack));
    begin += part.outputs;
  }
  return absl::OkStatus();
}

absl::Status ImageReader::ReadUnit(const std::string& prefix, const UnitShape& shape,
                                   ImageWriter& writer, void* image, LoadMeter& meter) const {
  for (const auto& [name, tensor] : {std::pair{"gate", UnitTensor::kGate},
                                     {"up", UnitTensor::kUp},
                                     {"down", UnitTensor::kDown}}) {
    const bool down = tensor == UnitTensor::kDown;
    const auto pack = [&, tensor = tensor](int64_t first, const WeightRows& rows) {
      writer.PackUnitRows(tensor, rows, first, shape, image);
      meter.rows += kPieceRows;
      return !meter.is_stopped;
    };
    RETURN_IF_ERROR(checkpoint_.ReadRows(
        {absl::StrCat(prefix, name, "_proj.weight"), down ? shape.hidden : shape.width,
         down ? shape.width : shape.hidden, ValueType(shape.format), kPieceRows},
        pack));
  }
  return absl::OkStatus();
}

}  // namespace pregate

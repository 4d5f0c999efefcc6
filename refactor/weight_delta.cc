#include "refactor/weight_delta.h"

#include <algorithm>
#include <cmath>

#include "common/base/status.h"

namespace pregate {
namespace {

constexpr float kInt8Max = 127;

absl::Status Bad(const std::string& name, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("artifact: delta of ", name, ": ", what));
}

bool IsFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

absl::Status CheckMatrix(const std::string& name, const char* part, const Int8Matrix& matrix,
                         int64_t columns) {
  const bool whole = matrix.rows >= 0 && matrix.columns == columns &&
                     static_cast<int64_t>(matrix.values.size()) == matrix.rows * columns &&
                     static_cast<int64_t>(matrix.scales.size()) == matrix.rows;
  if (!whole) {
    return Bad(name, absl::StrCat(part, " has ", matrix.rows, " x ", matrix.columns, " values and ",
                                  matrix.scales.size(), " scales, its rows want ", columns));
  }
  if (!IsFinite(matrix.scales)) return Bad(name, absl::StrCat(part, "_scale is not finite"));
  return absl::OkStatus();
}

}  // namespace

Int8Matrix RoundToInt8(absl::Span<const float> values, int64_t rows, int64_t columns) {
  PREGATE_CHECK(static_cast<int64_t>(values.size()) == rows * columns);
  Int8Matrix out{.rows = rows, .columns = columns};
  out.values.reserve(values.size());
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = values.subspan(r * columns, columns);
    float largest = 0;
    for (const float x : row) largest = std::max(largest, std::abs(x));
    const float scale = largest / kInt8Max;
    out.scales.push_back(scale);
    for (const float x : row) {
      out.values.push_back(scale > 0 ? static_cast<int8_t>(std::lround(x / scale)) : int8_t{0});
    }
  }
  return out;
}

void DecodeRow(const Int8Matrix& matrix, int64_t r, absl::Span<float> out) {
  const int8_t* values = matrix.values.data() + r * matrix.columns;
  for (int64_t c = 0; c < matrix.columns; ++c) out[c] = matrix.scales[r] * values[c];
}

int64_t WeightDelta::bytes() const {
  return static_cast<int64_t>(exact.size() * sizeof(float)) + full.bytes() + left.bytes() +
         right.bytes();
}

absl::Status CheckDelta(const std::string& name, const WeightDelta& delta) {
  const int forms = !delta.exact.empty() + (delta.full.rows > 0) + (delta.left.rows > 0);
  if (forms != 1) return Bad(name, absl::StrCat("has ", forms, " forms, not one"));
  if (!delta.exact.empty()) {
    if (delta.shape.size() != 1 || delta.shape[0] != static_cast<int64_t>(delta.exact.size())) {
      return Bad(name, absl::StrCat("has ", delta.exact.size(), " values for another shape"));
    }
    return IsFinite(delta.exact) ? absl::OkStatus() : Bad(name, "is not finite");
  }
  if (delta.shape.size() != 2) return Bad(name, "is of no matrix");
  if (delta.full.rows > 0) {
    if (delta.full.rows != delta.shape[0]) return Bad(name, "full has another number of rows");
    return CheckMatrix(name, "full", delta.full, delta.shape[1]);
  }
  if (delta.left.rows != delta.right.rows) {
    return Bad(name, absl::StrCat("left has ", delta.left.rows, " rows, right ", delta.right.rows));
  }
  RETURN_IF_ERROR(CheckMatrix(name, "left", delta.left, delta.shape[0]));
  return CheckMatrix(name, "right", delta.right, delta.shape[1]);
}

void AddDelta(const WeightDelta& delta, absl::Span<float> values) {
  if (!delta.exact.empty()) {
    for (size_t i = 0; i < values.size(); ++i) values[i] += delta.exact[i];
    return;
  }
  const int64_t rows = delta.shape[0], columns = delta.shape[1], rank = delta.left.rows;
  std::vector<float> row(columns);
  for (int64_t r = 0; r < delta.full.rows; ++r) {
    DecodeRow(delta.full, r, absl::MakeSpan(row));
    for (int64_t c = 0; c < columns; ++c) values[r * columns + c] += row[c];
  }
  if (rank == 0) return;
  std::vector<float> right(rank * columns);
  for (int64_t k = 0; k < rank; ++k) {
    DecodeRow(delta.right, k, absl::MakeSpan(right).subspan(k * columns, columns));
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::fill(row.begin(), row.end(), 0.f);
    for (int64_t k = 0; k < rank; ++k) {
      const float factor = delta.left.scales[k] * delta.left.values[k * rows + r];
      const float* from = right.data() + k * columns;
      for (int64_t c = 0; c < columns; ++c) row[c] += factor * from[c];
    }
    for (int64_t c = 0; c < columns; ++c) values[r * columns + c] += row[c];
  }
}

}  // namespace pregate

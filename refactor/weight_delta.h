// What tuning adds to one tensor of the dense model, in few bytes. Matrices are int8 with a scale a
// row: the difference itself, or two factors of an approximation of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace pregate {

struct Int8Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<int8_t> values;  // [rows, columns]
  std::vector<float> scales;   // [rows]

  int64_t bytes() const { return rows * columns + rows * static_cast<int64_t>(sizeof(float)); }
};

// Each row's scale is its largest magnitude / 127. REQUIRES: finite values.
Int8Matrix RoundToInt8(absl::Span<const float> values, int64_t rows, int64_t columns);
// Row `r` as floats, [columns].
void DecodeRow(const Int8Matrix& matrix, int64_t r, absl::Span<float> out);

struct WeightDelta {
  std::vector<int64_t> shape;  // the tensor's
  // One of three:
  std::vector<float> exact;  // of a vector
  Int8Matrix full;           // [shape[0], shape[1]]
  Int8Matrix left, right;    // [rank, shape[0]], [rank, shape[1]]: the difference is left^T right

  int64_t bytes() const;
};
using WeightDeltas = std::map<std::string, WeightDelta>;  // by canonical name of the dense tensor

// InvalidArgument names the first thing of `delta` that is not as above, or is not finite.
absl::Status CheckDelta(const std::string& name, const WeightDelta& delta);

// REQUIRES: CheckDelta is OK; values.size() is the product of delta.shape.
void AddDelta(const WeightDelta& delta, absl::Span<float> values);

}  // namespace pregate

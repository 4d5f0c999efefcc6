// What tuning adds to one tensor of the dense model, in few bytes: a matrix as codes of 1 to 8 bits
// with a scale a row, a vector as it is.
//
// The levels are those of a mid-rise quantiser: value = (code - (2^bits - 1) / 2) * scale. A row's
// scale is the one of least squared error, searched from the best one for a normal distribution
// (Max, Quantizing for Minimum Distortion, 1960, Table II) and ended by Lloyd's iterations.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace pregate {

inline constexpr int kCodeBitsMax = 8;

// Code c of a row lies in its bits [c * bits, (c + 1) * bits), low bits first; the bits behind the
// last code are 0.
struct CodedMatrix {
  int bits = 0;  // a code; 0: there is no matrix
  int64_t rows = 0, columns = 0;
  std::vector<int8_t> codes;  // [rows, row_bytes()]
  std::vector<float> scales;  // [rows], each of 16 bits: a bf16

  int64_t row_bytes() const { return (columns * bits + 7) / 8; }
  int64_t bytes() const;  // in an artifact
};

// REQUIRES: finite values. A row of zeros, or one whose root mean square is below 1e-18, is zeros.
// `square_lost`, if given, becomes the sum of the squares of what decoding misses.
CodedMatrix Encode(absl::Span<const float> values, int64_t rows, int64_t columns, int bits,
                   double* square_lost = nullptr);

// The codes of other values in `grid`'s bits and scales. REQUIRES: its rows and columns.
CodedMatrix EncodeOnGrid(absl::Span<const float> values, const CodedMatrix& grid,
                         double* square_lost = nullptr);

struct WeightDelta {
  std::vector<int64_t> shape;  // the tensor's
  // One of two:
  std::vector<float> exact;  // of a vector
  CodedMatrix coded;         // [shape[0], shape[1]]

  int64_t bytes() const;  // in an artifact
};
using WeightDeltas = std::map<std::string, WeightDelta>;  // by canonical name of the dense tensor

// InvalidArgument names the first thing of `delta` that is not as above, or is not finite.
absl::Status CheckDelta(const std::string& name, const WeightDelta& delta);

// REQUIRES: CheckDelta is OK; values.size() is the product of delta.shape.
void AddDelta(const WeightDelta& delta, absl::Span<float> values);

}  // namespace pregate

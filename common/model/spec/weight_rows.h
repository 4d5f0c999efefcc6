// Rows of a weight on their way from a file to a device.
#pragma once

#include <cstdint>
#include <variant>

#include "absl/types/span.h"

namespace pregate {

// Elements of whole rows, one row after the other: in f32, or in bf16 (the upper halves of f32s).
using WeightRows = std::variant<absl::Span<const float>, absl::Span<const uint16_t>>;

inline int64_t NumElements(const WeightRows& rows) {
  return std::visit([](auto values) { return static_cast<int64_t>(values.size()); }, rows);
}

// Elements first .. first + n - 1.
inline WeightRows SomeElements(const WeightRows& rows, int64_t first, int64_t n) {
  return std::visit([=](auto values) -> WeightRows { return values.subspan(first, n); }, rows);
}

}  // namespace pregate

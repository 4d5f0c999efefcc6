// The capacities that operations are enqueued with. Steps of one bucket differ in device data
// alone.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace pregate {

// The smallest power of two that holds `rows`, at most `rows_max`. REQUIRES: rows <= rows_max.
inline int32_t StepBucket(int32_t rows, int32_t rows_max) {
  const uint32_t at_least = static_cast<uint32_t>(std::max(rows, 1));
  return std::min(static_cast<int32_t>(std::bit_ceil(at_least)), rows_max);
}

}  // namespace pregate

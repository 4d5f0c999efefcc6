// What of a rank's expert units lies on its device, for metrics.
#pragma once

#include <cstdint>

namespace pregate {

struct ResidencyStats {
  int64_t units = 0;  // resident
  int64_t slots = 0;  // units that fit at once; as many as are held where all fit
  int64_t bytes = 0;  // device memory of the resident ones
  // Since the start, between steps too: copies into slots, units that gave way.
  int64_t loads = 0;
  int64_t evictions = 0;
};

}  // namespace pregate

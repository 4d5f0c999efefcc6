// The offline optimum for a stream of references: evict what is used again last (Belady, 1966).
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace pregate::sim {

// Hits of a cache with `slots` slots that starts empty and loads what it misses. REQUIRES: units
// are 0 .. num_units-1.
int64_t OptimalHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots);

}  // namespace pregate::sim

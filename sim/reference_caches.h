// The caches that the paper compares, on one stream of references that is known to its end. Each has
// `slots` slots, starts empty and loads what it misses. REQUIRES: units are 0 .. num_units-1.
#pragma once

#include <cstdint>

#include "absl/types/span.h"

namespace pregate::sim {

// Hits where a random unit gives way.
int64_t RandomHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots,
                   uint64_t seed);
// Hits where the longest unused gives way.
int64_t LruHits(absl::Span<const int32_t> references, int32_t num_units, int32_t slots);

}  // namespace pregate::sim

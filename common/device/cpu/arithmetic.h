// Integer arithmetic of panels, blocks and tiles.
#pragma once

#include <cstdint>

namespace pregate::cpu {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

}  // namespace pregate::cpu

// Ids that tell two processes apart. Policy draws from an injected source instead.
#pragma once

#include <cstdint>

namespace pregate {

// 64 bits from the system's entropy source. Thread-safe.
uint64_t RandomId();

}  // namespace pregate

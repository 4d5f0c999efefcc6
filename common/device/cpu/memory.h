// The CPU device's memory.
#pragma once

#include <cstddef>

#include "common/device/device.h"

namespace pregate::cpu {

// Zeroed; null where there is not enough. A large buffer's pages come when they are first touched,
// so that whichever threads fill it share that work, and are 2 MiB large where the system has such:
// weights that stream from memory then wait less for the translation of addresses.
DeviceBuffer AllocateZeroed(size_t bytes);

}  // namespace pregate::cpu

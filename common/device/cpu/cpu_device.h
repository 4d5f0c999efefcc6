// The CPU device: one packed kernel family for every row count, instruction set chosen at run time.
#pragma once

#include <memory>

#include "common/device/composed_device.h"

namespace pregate {

struct CpuDeviceOptions {
  int threads = 1;  // including the caller's; 0 = one a hardware thread
};

// `act` buffers are f32 whose values are rounded to the operation's ActType.
// Bits are the same for every thread count.
std::unique_ptr<ComposedDevice> MakeCpuDevice(const CpuDeviceOptions& options);

}  // namespace pregate

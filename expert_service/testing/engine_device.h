// The device that the engine's tests run on. An executable links one definition:
// cpu_engine_device.cc or cuda_engine_device.cc.
#pragma once

#include <memory>

#include "common/device/device.h"

namespace pregate {

// `threads` is for devices that have them.
std::unique_ptr<Device> MakeEngineTestDevice(int threads);

}  // namespace pregate

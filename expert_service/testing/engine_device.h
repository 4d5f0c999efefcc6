// The device that the engine's tests run on, and what one rank exchanges over. An executable links
// one definition: cpu_engine_device.cc or cuda_engine_device.cc.
#pragma once

#include <memory>

#include "common/collective/collective.h"
#include "common/device/device.h"

namespace pregate {

// `threads` is for devices that have them.
std::unique_ptr<Device> MakeEngineTestDevice(int threads);
// One that runs layers at once, beside which copies go on: an AtOnceDevice, or the card itself.
std::unique_ptr<Device> MakeAtOnceTestDevice(int threads);
// For one rank, on that device.
std::unique_ptr<CollectiveFactory> MakeEngineTestCollectives(Device* device);

}  // namespace pregate

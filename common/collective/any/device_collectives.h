// The collectives that go with a device.
#pragma once

#include <memory>

#include "common/collective/collective.h"
#include "common/device/device.h"

namespace pregate {

// NCCL's on the device's stream for a card, with windows (nccl_factory.h) where asked for; null for a device whose memory is the host's: there any
// collective of host memory serves. The device outlives it.
std::unique_ptr<CollectiveFactory> MakeDeviceCollectives(Device* device, bool windows = false);

}  // namespace pregate

// The device that contract tests compare others with: plain loops, double accumulators, one thread.
// It defines what each operation means; nothing in it is fast.
#pragma once

#include <memory>

#include "common/device/composed_device.h"

namespace pregate {

std::unique_ptr<ComposedDevice> MakeReferenceDevice();

}  // namespace pregate

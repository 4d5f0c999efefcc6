#include "common/device/cpu/cpu_device.h"

#include "common/device/reference/reference_device.h"

namespace pregate {

std::unique_ptr<Device> MakeCpuDevice(const CpuDeviceOptions&) { return MakeReferenceDevice(); }

}  // namespace pregate

#include "common/device/cpu/cpu_device.h"
#include "expert_service/testing/engine_device.h"

namespace pregate {

std::unique_ptr<Device> MakeEngineTestDevice(int threads) {
  return MakeCpuDevice({.threads = threads});
}

}  // namespace pregate

#include "common/collective/local/local_fabric.h"
#include "common/device/cpu/cpu_device.h"
#include "expert_service/testing/at_once_device.h"
#include "expert_service/testing/engine_device.h"

namespace pregate {

std::unique_ptr<Device> MakeEngineTestDevice(int threads) {
  return MakeCpuDevice({.threads = threads});
}

std::unique_ptr<Device> MakeAtOnceTestDevice(int threads) {
  return std::make_unique<AtOnceDevice>(MakeEngineTestDevice(threads), /*looks=*/3);
}

std::unique_ptr<CollectiveFactory> MakeEngineTestCollectives(Device*) {
  return std::make_unique<LocalFabric>();
}

}  // namespace pregate

#include "common/device/cpu/cpu_device.h"
#include "common/device/device_contract.h"

namespace pregate {

std::vector<DeviceFamily> FamiliesUnderTest() {
  DeviceFamily family = {"cpu", {}};
  for (const int threads : {1, 2, 3}) {
    family.variants.push_back([threads] { return MakeCpuDevice({.threads = threads}); });
  }
  return {family};
}

std::vector<StepTypes> StepTypesUnderTest() { return {kF32Types, kBF16Types}; }

}  // namespace pregate

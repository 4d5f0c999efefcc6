// The contract tests' device: one card. Without a card there is no family, and the program says so.
#include <cstdio>
#include <cstdlib>

#include "common/base/status.h"
#include "common/device/cuda/cuda_device.h"
#include "common/device/device_contract.h"

namespace pregate {

namespace {

// A machine that must have a card says so with PREGATE_REQUIRE_GPU=1.
bool HasCard() {
  const absl::Status status = MakeCudaDevice({}).status();
  if (status.ok()) return true;
  std::fprintf(stderr, "no CUDA device, nothing is tested: %s\n", status.ToString().c_str());
  PREGATE_CHECK(std::getenv("PREGATE_REQUIRE_GPU") == nullptr, "a card is required");
  return false;
}

}  // namespace

std::vector<DeviceFamily> FamiliesUnderTest() {
  static const bool available = HasCard();
  if (!available) return {};
  return {{"cuda", {[]() -> std::unique_ptr<ComposedDevice> { return *MakeCudaDevice({}); }}}};
}

std::vector<StepTypes> StepTypesUnderTest() { return {kF32Types, kBF16Types}; }

// A suite without a device is no error.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceContractTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceFfnContractTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceAttentionContractTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceExchangeContractTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceLayerContractTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceSamplingContractTest);

}  // namespace pregate

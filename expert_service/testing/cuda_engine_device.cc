// The engine's tests on a card, with a main of their own: one card is one rank, so tests of several
// are left out; without a card nothing is tested, which is no failure unless PREGATE_REQUIRE_GPU is
// set.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "common/base/status.h"
#include "common/collective/any/device_collectives.h"
#include "common/device/cuda/cuda_device.h"
#include "expert_service/testing/engine_device.h"

namespace pregate {

std::unique_ptr<Device> MakeEngineTestDevice(int) {
  auto device = MakeCudaDevice({});
  PREGATE_CHECK(device.ok(), "", device.status().ToString());
  return *std::move(device);
}

std::unique_ptr<Device> MakeAtOnceTestDevice(int threads) { return MakeEngineTestDevice(threads); }

std::unique_ptr<CollectiveFactory> MakeEngineTestCollectives(Device* device) {
  return MakeDeviceCollectives(device);
}

}  // namespace pregate

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const absl::Status status = pregate::MakeCudaDevice({}).status(); !status.ok()) {
    std::printf("no CUDA device, nothing is tested: %s\n", status.ToString().c_str());
    return std::getenv("PREGATE_REQUIRE_GPU") != nullptr;
  }
  // The local fabric copies host memory.
  if (GTEST_FLAG_GET(filter) == "*") GTEST_FLAG_SET(filter, "-*ranks*");
  return RUN_ALL_TESTS();
}

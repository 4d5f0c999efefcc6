// One card is one rank: tests of several are left out. Without a card the program runs no test and
// says so; PREGATE_REQUIRE_GPU=1 makes that an error.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "common/base/status.h"
#include "common/device/cuda/cuda_device.h"
#include "expert_service/testing/engine_device.h"

namespace pregate {
namespace {

const bool has_card = [] {
  const absl::Status status = MakeCudaDevice({}).status();
  if (status.ok()) {
    GTEST_FLAG_SET(filter, "-*ranks");  // the local fabric copies host memory
    return true;
  }
  std::fprintf(stderr, "no CUDA device, nothing is tested: %s\n", status.ToString().c_str());
  PREGATE_CHECK(std::getenv("PREGATE_REQUIRE_GPU") == nullptr, "a card is required");
  GTEST_FLAG_SET(filter, "-*");
  return false;
}();

}  // namespace

std::unique_ptr<Device> MakeEngineTestDevice(int) {
  PREGATE_CHECK(has_card, "no card");
  auto device = MakeCudaDevice({});
  PREGATE_CHECK(device.ok(), "", device.status().ToString());
  return *std::move(device);
}

}  // namespace pregate

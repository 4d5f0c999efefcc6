// The devices that every test of the router's numbers runs on.
#pragma once

#include <memory>
#include <string>

#include "common/device/cpu/cpu_device.h"
#include "common/device/reference/reference_device.h"

namespace pregate {

inline std::unique_ptr<Device> MakeTestDevice(const std::string& name) {
  if (name == "reference") return MakeReferenceDevice();
  return MakeCpuDevice({.threads = name == "cpu_2_threads" ? 2 : 1});
}

#define PREGATE_ALL_TEST_DEVICES ::testing::Values("reference", "cpu", "cpu_2_threads")

}  // namespace pregate

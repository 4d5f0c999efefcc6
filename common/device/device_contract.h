// What the contract tests of every device share. An executable links these tests with one
// definition of FamiliesUnderTest and StepTypesUnderTest (the CPU's: cpu/cpu_contract_families.cc).
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/device/composed_device.h"
#include "gtest/gtest.h"

namespace pregate {

// Devices of one kind that promise equal bits (thread counts, for example).
struct DeviceFamily {
  std::string name;
  std::vector<std::function<std::unique_ptr<ComposedDevice>()>> variants;
};
std::vector<DeviceFamily> FamiliesUnderTest();
// What every contract test runs with on these devices; defined beside the families.
std::vector<StepTypes> StepTypesUnderTest();

// Device copies of host arrays, alive as long as the rig.
class Rig {
 public:
  explicit Rig(ComposedDevice& device) : device_(device) {}
  ComposedDevice& device() { return device_; }

  template <class T>
  T* Put(const std::vector<T>& values) {
    T* data = static_cast<T*>(Bytes(values.size() * sizeof(T)));
    device_.Upload(data, values.data(), values.size() * sizeof(T));
    return data;
  }
  template <class T>
  std::vector<T> Get(const T* data, size_t n) {
    std::vector<T> values(n);
    device_.Download(values.data(), data, n * sizeof(T));
    const absl::Status status = device_.Synchronize();
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }
  void* Bytes(size_t bytes);  // zeroed
  // Rounded inputs of matrix products, in the device's own width.
  void* PutAct(const std::vector<float>& values, ActType type);
  std::vector<float> GetAct(const void* act, size_t n, ActType type);
  // `max` is above `num`, so that a device which ignores the device-side count is found out.
  RowCount Rows(int num) { return {Put<int32_t>({num}), num + 3}; }
  Matrix PutMatrix(const std::vector<float>& rows, int outputs, int inputs, WeightFormat format,
                   bool lookup = false);
  const void* PutUnit(const std::vector<float>& gate, const std::vector<float>& up,
                      const std::vector<float>& down, const UnitShape& shape);

 private:
  ComposedDevice& device_;
  std::vector<DeviceBuffer> buffers_;
};

// A fresh seed each run, printed when a test of the fixture fails.
class DeviceContractTest : public testing::TestWithParam<DeviceFamily> {
 protected:
  DeviceContractTest();
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  std::vector<float> Floats(size_t n, float sigma = 1);
  std::vector<int> Shuffled(int n);

  uint64_t seed_;
  std::mt19937_64 random_;
  testing::ScopedTrace trace_;
  std::vector<std::unique_ptr<ComposedDevice>> devices_;  // the family's variants
  std::unique_ptr<ComposedDevice> reference_;
};

// |a - b| / |b|, in the Euclidean norm; 0 where both are empty.
double RelativeError(const std::vector<float>& a, const std::vector<float>& b);
// Rows of `width` picked from `all`.
std::vector<float> PickRows(const std::vector<float>& all, int width, const std::vector<int>& rows);
// Bit for bit.
bool SameBits(const std::vector<float>& a, const std::vector<float>& b);

inline std::string FamilyName(const testing::TestParamInfo<DeviceFamily>& info) {
  return info.param.name;
}

}  // namespace pregate

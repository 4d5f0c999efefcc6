#include "common/device/device_contract.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "common/base/status.h"
#include "common/device/reference/reference_device.h"
#include "common/device/rounding.h"

namespace pregate {

void* Rig::Bytes(size_t bytes) {
  buffers_.push_back(*device_.Allocate(bytes));
  return buffers_.back().as<void>();
}

void* Rig::PutAct(const std::vector<float>& values, ActType type) {
  std::vector<float> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(),
                 [&](float x) { return RoundTo(type, x); });
  if (device_.act_bytes(type) == sizeof(float)) return Put(rounded);
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), Bf16Bits);
  return Put(bits);
}

std::vector<float> Rig::GetAct(const void* act, size_t n, ActType type) {
  if (device_.act_bytes(type) == sizeof(float)) return Get(static_cast<const float*>(act), n);
  const std::vector<uint16_t> bits = Get(static_cast<const uint16_t*>(act), n);
  std::vector<float> values(n);
  std::transform(bits.begin(), bits.end(), values.begin(), Bf16ToFloat);
  return values;
}

Matrix Rig::PutMatrix(const std::vector<float>& rows, int outputs, int inputs, WeightFormat format,
                      bool lookup) {
  Matrix matrix = {nullptr, outputs, inputs, format, lookup};
  std::vector<char> image(device_.MatrixBytes(outputs, inputs, format));
  device_.PackMatrixRows(rows, 0, matrix, image.data());
  matrix.data = Put(image);
  return matrix;
}

const void* Rig::PutUnit(const std::vector<float>& gate, const std::vector<float>& up,
                         const std::vector<float>& down, const UnitShape& shape) {
  std::vector<char> image(device_.UnitBytes(shape));
  device_.PackUnit(gate, up, down, shape, image.data());
  return Put(image);
}

DeviceContractTest::DeviceContractTest()
    : seed_(std::random_device()()),
      random_(seed_),
      trace_(__FILE__, __LINE__, absl::StrCat("seed ", seed_)),
      reference_(MakeReferenceDevice()) {
  for (const auto& make : GetParam().variants) devices_.push_back(make());
}

std::vector<float> DeviceContractTest::Floats(size_t n, float sigma) {
  std::normal_distribution<float> normal(0, sigma);
  std::vector<float> values(n);
  for (float& x : values) x = normal(random_);
  return values;
}

std::vector<int> DeviceContractTest::Shuffled(int n) {
  std::vector<int> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_);
  return order;
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

std::vector<float> PickRows(const std::vector<float>& all, int width,
                            const std::vector<int>& rows) {
  std::vector<float> picked;
  for (const int r : rows) {
    picked.insert(picked.end(), all.begin() + int64_t{r} * width,
                  all.begin() + int64_t{r + 1} * width);
  }
  return picked;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace pregate

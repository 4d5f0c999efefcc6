// Linear at the shapes of real models: a row has the same bits in every number of rows, which is
// what the choice of algorithms in cublas_matmul.h rests on.
#include <random>

#include "common/device/device_contract.h"

namespace pregate {
namespace {

constexpr int kRowsMax = 4096;

struct Shape {
  int outputs, inputs;
  StepTypes types;
};

class DeviceLinearBitsTest : public DeviceContractTest {
 protected:
  std::vector<float> Uniform(size_t n) {
    std::vector<float> values(n);
    uint64_t state = random_();
    for (float& x : values) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      x = static_cast<float>(static_cast<int64_t>(state) >> 40) * 0x1p-23f;
    }
    return values;
  }
};

TEST_P(DeviceLinearBitsTest, ARowHasTheSameBitsInEveryNumberOfRows) {
  ComposedDevice& device = *devices_[0];
  for (const Shape& s : {Shape{12288, 4096, kBF16Types},
                         {4096, 4096, kBF16Types},
                         {32000, 4096, kBF16Types},
                         {960, 576, kBF16Types},
                         {576, 576, kBF16Types},
                         {49152, 576, kBF16Types},
                         {1536, 512, kF32Types},
                         {512, 512, kF32Types},
                         {960, 576, kF32Types}}) {
    Rig rig(device);
    const Matrix w =
        rig.PutMatrix(Uniform(size_t(s.outputs) * s.inputs), s.outputs, s.inputs, s.types.weights);
    const auto x =
        static_cast<const char*>(rig.PutAct(Uniform(size_t{kRowsMax} * s.inputs), s.types.act));
    float* out = static_cast<float*>(rig.Bytes(size_t{4} * kRowsMax * s.outputs));
    const auto run = [&](int first, int rows) {
      const RowCount count = {rig.Put<int32_t>({rows}), rows};
      device.Linear(count, s.types.act, x + first * s.inputs * device.act_bytes(s.types.act), w,
                    nullptr, out);
      return rig.Get(out, size_t(rows) * s.outputs);
    };
    const std::vector<float> all = run(0, kRowsMax);
    for (const int rows : {1, 2, 3, 4, 7, 8, 16, 17, 32, 33, 64, 100, 128, 256, 300, 512, 1024}) {
      const int first = Int(0, (kRowsMax - rows) / 128) * 128;
      const auto begin = all.begin() + int64_t{first} * s.outputs;
      EXPECT_TRUE(SameBits(run(first, rows), {begin, begin + int64_t{rows} * s.outputs}))
          << rows << " rows of " << s.outputs << " x " << s.inputs << " " << TypesName(s.types);
    }
  }
}

// The grouped products take another kernel by the number of rows of a step.
TEST_P(DeviceLinearBitsTest, AnExpertsRowHasTheSameBitsInEveryNumberOfRows) {
  constexpr int kExperts = 3, kRows = 1300;
  ComposedDevice& device = *devices_[0];
  for (const StepTypes& types : {kBF16Types, kF32Types}) {
    for (const UnitShape& shape :
         {UnitShape{688, 1024, types.weights}, {200, 600, types.weights}}) {
      Rig rig(device);
      const size_t n = size_t(shape.width) * shape.hidden;
      std::vector<const void*> units;
      for (int e = 0; e < kExperts; ++e) {
        units.push_back(rig.PutUnit(Uniform(n), Uniform(n), Uniform(n), shape));
      }
      const std::vector<float> x = Uniform(size_t{kRows} * shape.hidden);
      std::vector<int32_t> routes(kRows);
      for (int32_t& route : routes) route = Int(0, kExperts - 1);
      const auto run = [&](int first, int rows) {
        const auto begin = x.begin() + int64_t{first} * shape.hidden;
        const auto act = rig.PutAct({begin, begin + int64_t{rows} * shape.hidden}, types.act);
        const RowCount count = {rig.Put<int32_t>({rows}), rows};
        const ExpertGroups groups = {rig.Put(std::vector<int32_t>(kExperts + 1)),
                                     rig.Put(std::vector<int32_t>(rows)), kExperts};
        device.BuildGroups(
            count,
            rig.Put(std::vector<int32_t>(routes.begin() + first, routes.begin() + first + rows)),
            groups);
        auto* out = static_cast<float*>(rig.Bytes(sizeof(float) * rows * shape.hidden));
        device.ExpertFfn(count, types.act, act, groups, rig.Put(units), shape, out);
        return rig.Get(out, size_t(rows) * shape.hidden);
      };
      const std::vector<float> all = run(0, kRows);
      for (const int rows : {1, 3, 40, 64, 65, 200, 511, 512, 700}) {
        const int first = Int(0, kRows - rows);
        const auto begin = all.begin() + int64_t{first} * shape.hidden;
        EXPECT_TRUE(SameBits(run(first, rows), {begin, begin + int64_t{rows} * shape.hidden}))
            << rows << " rows of width " << shape.width << " " << TypesName(types);
      }
    }
  }
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceLinearBitsTest);
INSTANTIATE_TEST_SUITE_P(Devices, DeviceLinearBitsTest, testing::ValuesIn(FamiliesUnderTest()),
                         FamilyName);

}  // namespace
}  // namespace pregate

// Contract of Device: matrix products, row operations and grouping. Attention and sampling have
// files of their own.
#include "common/device/device_contract.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <thread>

#include "common/device/rounding.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

using testing::Each;
using testing::ElementsAre;

// Relative error allowed against the double reference: accumulation, or rounding to 8 bits.
double SumTolerance() { return 3e-6; }
double ActTolerance(ActType type) { return type == ActType::kBF16 ? 1e-3 : 3e-6; }

std::vector<int> InvariantRowCounts() {
  std::vector<int> counts(64);
  std::iota(counts.begin(), counts.end(), 1);
  counts.insert(counts.end(), {100, 128, 255, 256});
  return counts;
}

struct LinearCase {
  int outputs, inputs;
  StepTypes types;
  std::vector<float> weight, bias;
};

std::vector<float> RunLinear(ComposedDevice& device, const LinearCase& c,
                             const std::vector<float>& x) {
  Rig rig(device);
  const int rows = static_cast<int>(x.size() / std::max(1, c.inputs));
  const RowCount count = rig.Rows(rows);
  float* out = static_cast<float*>(rig.Bytes(size_t{4} * count.max * c.outputs));
  const float* bias = c.bias.empty() ? nullptr : rig.Put(c.bias);
  // A product may run over all `max` rows; what it makes of zeros is zero.
  std::vector<float> padded = x;
  padded.resize(size_t(count.max) * c.inputs);
  device.Linear(count, c.types.act, rig.PutAct(padded, c.types.act),
                rig.PutMatrix(c.weight, c.outputs, c.inputs, c.types.weights), bias, out);
  const std::vector<float> all = rig.Get(out, size_t(count.max) * c.outputs);
  EXPECT_THAT(std::vector<float>(all.begin() + int64_t{rows} * c.outputs, all.end()), Each(0.0f));
  return {all.begin(), all.begin() + int64_t{rows} * c.outputs};
}

TEST_P(DeviceContractTest, LinearAgreesWithTheReference) {
  const std::pair<int, int> shapes[] = {{1, 1},   {7, 33},   {31, 17},
                                        {32, 64}, {65, 300}, {576, 1536}};
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (const auto& [outputs, inputs] : shapes) {
      LinearCase c = {outputs, inputs, types, Floats(size_t(outputs) * inputs, 0.1f), {}};
      if (Int(0, 1) == 1) c.bias = Floats(outputs);
      const std::vector<float> x = Floats(size_t(Int(0, 20)) * inputs);
      EXPECT_LT(RelativeError(RunLinear(*devices_[0], c, x), RunLinear(*reference_, c, x)),
                SumTolerance())
          << outputs << " x " << inputs;
    }
  }
}

TEST_P(DeviceContractTest, LinearGivesARowTheSameBitsInEveryBatch) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    const int outputs = Int(1, 130), inputs = Int(1, 700);
    LinearCase c = {outputs, inputs, types, Floats(size_t(outputs) * inputs), Floats(outputs)};
    const std::vector<float> x = Floats(size_t{256} * inputs);
    std::vector<float> alone;
    for (int r = 0; r < 256; ++r) {
      const std::vector<float> y = RunLinear(*devices_[0], c, PickRows(x, inputs, {r}));
      alone.insert(alone.end(), y.begin(), y.end());
    }
    for (const int m : InvariantRowCounts()) {
      std::vector<int> rows = Shuffled(256);
      rows.resize(m);
      const std::vector<float> expected = PickRows(alone, outputs, rows);
      const std::vector<float> in = PickRows(x, inputs, rows);
      ComposedDevice& device = *devices_[m % devices_.size()];
      EXPECT_TRUE(SameBits(RunLinear(device, c, in), expected))
          << m << " rows on " << device.name();
    }
  }
}

struct FfnCase {
  UnitShape shape;
  ActType act;
  std::vector<std::vector<float>> gate, up, down;  // [experts]
};

// routes[r] in [0, experts), or -1 for a row in no group.
std::vector<float> RunFfn(ComposedDevice& device, const FfnCase& c, const std::vector<float>& x,
                          const std::vector<int32_t>& routes) {
  Rig rig(device);
  const int num_experts = static_cast<int>(c.gate.size());
  const RowCount count = rig.Rows(static_cast<int>(routes.size()));
  const ExpertGroups groups = {rig.Put(std::vector<int32_t>(num_experts + 1)),
                               rig.Put(std::vector<int32_t>(count.max)), num_experts};
  device.BuildGroups(count, rig.Put(routes), groups);
  std::vector<const void*> units(num_experts);
  for (int e = 0; e < num_experts; ++e) {
    if (std::count(routes.begin(), routes.end(), e) == 0) continue;
    units[e] = rig.PutUnit(c.gate[e], c.up[e], c.down[e], c.shape);
  }
  float* out = rig.Put(std::vector<float>(routes.size() * c.shape.hidden, -7.0f));
  device.ExpertFfn(count, c.act, rig.PutAct(x, c.act), groups, rig.Put(units), c.shape, out);
  return rig.Get(out, routes.size() * c.shape.hidden);
}

// A wave of a layer's expert set: only some groups have their units.
TEST_P(DeviceContractTest, FfnLeavesGroupsWithoutAUnitAlone) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    const UnitShape shape = {Int(1, 40), Int(1, 40), types.weights};
    const size_t n = size_t(shape.width) * shape.hidden;
    const std::vector<float> gate = Floats(n), up = Floats(n), down = Floats(n);
    const std::vector<int32_t> routes = {1, 0, 2, 1, 0, 2, 2};
    Rig rig(*devices_[0]);
    const RowCount count = rig.Rows(static_cast<int>(routes.size()));
    const ExpertGroups groups = {rig.Put(std::vector<int32_t>(4)),
                                 rig.Put(std::vector<int32_t>(count.max)), 3};
    devices_[0]->BuildGroups(count, rig.Put(routes), groups);
    const void* x = rig.PutAct(Floats(size_t(count.max) * shape.hidden), types.act);
    const void* unit = rig.PutUnit(gate, up, down, shape);
    const size_t outputs = routes.size() * shape.hidden;
    float* whole = rig.Put(std::vector<float>(outputs, -7.0f));
    devices_[0]->ExpertFfn(count, types.act, x, groups, rig.Put<const void*>({unit, unit, unit}),
                           shape, whole);
    float* waves = rig.Put(std::vector<float>(outputs, -7.0f));
    devices_[0]->ExpertFfn(count, types.act, x, groups,
                           rig.Put<const void*>({nullptr, unit, nullptr}), shape, waves);
    std::vector<float> first = rig.Get(waves, outputs);
    for (size_t r = 0; r < routes.size(); ++r) {
      if (routes[r] == 1) continue;
      EXPECT_THAT(PickRows(first, shape.hidden, {static_cast<int>(r)}), Each(-7.0f)) << "row " << r;
    }
    devices_[0]->ExpertFfn(count, types.act, x, groups, rig.Put<const void*>({unit, nullptr, unit}),
                           shape, waves);
    EXPECT_TRUE(SameBits(rig.Get(waves, outputs), rig.Get(whole, outputs)));
  }
}

class DeviceFfnContractTest : public DeviceContractTest {
 protected:
  FfnCase MakeCase(int num_experts, int width, int hidden, const StepTypes& types) {
    const UnitShape shape = {width, hidden, types.weights};
    FfnCase c = {shape, types.act, {}, {}, {}};
    const size_t n = size_t(shape.width) * shape.hidden;
    for (int e = 0; e < num_experts; ++e) {
      c.gate.push_back(Floats(n, 0.2f));
      c.up.push_back(Floats(n, 0.2f));
      c.down.push_back(Floats(n, 0.2f));
    }
    return c;
  }
};

TEST_P(DeviceFfnContractTest, AgreesWithTheReference) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (const int width : {0, 1, 15, 16, 33, 384}) {
      const FfnCase c = MakeCase(5, width, Int(1, 100), types);
      std::vector<int32_t> routes(Int(0, 40));
      for (int32_t& r : routes) r = Int(-1, 3);  // the last expert has no rows
      const std::vector<float> x = Floats(routes.size() * c.shape.hidden);
      EXPECT_LT(
          RelativeError(RunFfn(*devices_[0], c, x, routes), RunFfn(*reference_, c, x, routes)),
          ActTolerance(types.act))
          << "width " << width;
    }
  }
}

TEST_P(DeviceFfnContractTest, GivesARowTheSameBitsInEveryGrouping) {
  constexpr int kRows = 200, kExperts = 3;
  for (const StepTypes& types : StepTypesUnderTest()) {
    const FfnCase c = MakeCase(kExperts, Int(1, 90), Int(1, 90), types);
    const int hidden = c.shape.hidden;
    const std::vector<float> x = Floats(size_t{kRows} * hidden);
    std::vector<std::vector<float>> alone(kExperts);  // [expert][row * hidden]
    for (int e = 0; e < kExperts; ++e) {
      for (int r = 0; r < kRows; ++r) {
        const std::vector<float> y = RunFfn(*devices_[0], c, PickRows(x, hidden, {r}), {e});
        alone[e].insert(alone[e].end(), y.begin(), y.end());
      }
    }
    for (int trial = 0; trial < 40; ++trial) {
      std::vector<int> rows = Shuffled(kRows);
      rows.resize(Int(1, kRows));
      const int only = trial % 4 == 0 ? Int(0, kExperts - 1) : -1;  // one group holds all rows
      std::vector<int32_t> routes;
      std::vector<float> expected;
      for (const int r : rows) {
        routes.push_back(only >= 0 ? only : Int(0, kExperts - 1));
        const std::vector<float> y = PickRows(alone[routes.back()], hidden, {r});
        expected.insert(expected.end(), y.begin(), y.end());
      }
      ComposedDevice& device = *devices_[trial % devices_.size()];
      EXPECT_TRUE(SameBits(RunFfn(device, c, PickRows(x, hidden, rows), routes), expected))
          << rows.size() << " rows on " << device.name();
    }
  }
}

TEST_P(DeviceContractTest, BuildGroupsSortsStably) {
  Rig rig(*devices_[0]);
  const RowCount count = rig.Rows(7);
  const ExpertGroups groups = {rig.Put(std::vector<int32_t>(5)), rig.Put(std::vector<int32_t>(10)),
                               4};
  devices_[0]->BuildGroups(count, rig.Put<int32_t>({2, 0, -1, 2, 3, 0, 2}), groups);
  EXPECT_THAT(rig.Get(groups.offsets, 5), ElementsAre(0, 2, 2, 5, 6));
  EXPECT_THAT(rig.Get(groups.order, 6), ElementsAre(1, 5, 0, 3, 6, 4));
  devices_[0]->BuildGroups(rig.Rows(0), rig.Put<int32_t>({0}), groups);
  EXPECT_THAT(rig.Get(groups.offsets, 5), Each(0));
}

std::vector<float> RunRmsNorm(ComposedDevice& device, const std::vector<float>& x, int width,
                              const std::vector<float>& weight, ActType act) {
  Rig rig(device);
  const RowCount count = rig.Rows(static_cast<int>(x.size() / width));
  void* out = rig.Bytes(device.act_bytes(act) * count.max * width);
  device.RmsNorm(count, width, rig.Put(x), rig.Put(weight), 1e-5f, act, out);
  return rig.GetAct(out, x.size(), act);
}

TEST_P(DeviceContractTest, RmsNormAgreesWithTheReferenceAndKeepsBits) {
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (const int width : {1, 15, 16, 17, 576}) {
      const int rows = Int(2, 70);
      const std::vector<float> x = Floats(size_t(rows) * width, 3), weight = Floats(width);
      const std::vector<float> y = RunRmsNorm(*devices_[0], x, width, weight, types.act);
      EXPECT_LT(RelativeError(y, RunRmsNorm(*reference_, x, width, weight, types.act)),
                ActTolerance(types.act));
      const std::vector<int> order = Shuffled(rows);
      EXPECT_TRUE(SameBits(
          RunRmsNorm(*devices_.back(), PickRows(x, width, order), width, weight, types.act),
          PickRows(y, width, order)));
    }
  }
}

TEST_P(DeviceContractTest, ActivateAgreesWithTheReferenceAtExtremesToo) {
  std::vector<float> x = Floats(1000, 5);
  x.insert(x.end(), {0.0f, -0.0f, 100.0f, -100.0f, 1e30f, -1e30f, 88.8f, -88.8f, 1e-30f});
  const int width = static_cast<int>(x.size());
  for (const RouterActivation activation : {RouterActivation::kSilu, RouterActivation::kRelu}) {
    std::vector<float> y[2];
    ComposedDevice* const devices[] = {devices_[0].get(), reference_.get()};
    for (int i = 0; i < 2; ++i) {
      Rig rig(*devices[i]);
      void* out = rig.Bytes(size_t{4} * 4 * width);
      devices[i]->Activate(rig.Rows(1), width, activation, rig.Put(x), ActType::kF32, out);
      y[i] = rig.GetAct(out, width, ActType::kF32);
    }
    for (int i = 0; i < width; ++i) {
      EXPECT_NEAR(y[0][i], y[1][i], 3e-6 * std::abs(y[1][i]) + 1e-30) << "x = " << x[i];
    }
  }
}

TEST_P(DeviceContractTest, ResidualSumsAreThoseOfTheReferenceBitForBit) {
  const int rows = Int(1, 40), width = Int(1, 100);
  const size_t n = size_t(rows) * width;
  const std::vector<float> shared = Floats(n), own = Floats(n), h = Floats(n);
  for (const StepTypes& types : StepTypesUnderTest()) {
    for (const bool dense : {false, true}) {
      const float scale = dense ? 1 : 0.22f;
      std::vector<float> y[2];
      ComposedDevice* const devices[] = {devices_.back().get(), reference_.get()};
      for (int i = 0; i < 2; ++i) {
        Rig rig(*devices[i]);
        float* sum = rig.Put(h);
        devices[i]->AddFfn(rig.Rows(rows), width, rig.Put(shared), dense ? nullptr : rig.Put(own),
                           types.wire, scale, sum);
        devices[i]->AddResidual(rig.Rows(rows), width, rig.Put(own), scale, sum);
        y[i] = rig.Get(sum, n);
      }
      EXPECT_TRUE(SameBits(y[0], y[1]));
    }
  }
}

TEST_P(DeviceContractTest, EmbedScalesAndGatherRowsCopiesRows) {
  const int vocab = Int(1, 100), width = Int(1, 50);
  const std::vector<float> table = Floats(size_t(vocab) * width);
  std::vector<int32_t> ids(Int(1, 30));
  for (int32_t& id : ids) id = Int(0, vocab - 1);
  const std::vector<float> picked = PickRows(table, width, {ids.begin(), ids.end()});
  Rig rig(*devices_.back());
  const RowCount count = rig.Rows(static_cast<int>(ids.size()));
  float* out = static_cast<float*>(rig.Bytes(size_t{4} * count.max * width));
  devices_.back()->GatherRows(count, width, rig.Put(table), rig.Put(ids), out);
  EXPECT_TRUE(SameBits(rig.Get(out, picked.size()), picked));
  TokenBatch batch;
  batch.rows = count;
  batch.token_ids = rig.Put(ids);
  for (const StepTypes& types : StepTypesUnderTest()) {
    std::vector<float> rounded(picked.size());
    const float scale = Int(0, 1) == 1 ? 1 : 12.1f;
    std::transform(picked.begin(), picked.end(), rounded.begin(),
                   [&](float x) { return scale * RoundTo(types.weights, x); });
    for (const bool lookup : {false, true}) {
      const Matrix matrix = rig.PutMatrix(table, vocab, width, types.weights, lookup);
      devices_.back()->Embed(batch, matrix, scale, out);
      EXPECT_TRUE(SameBits(rig.Get(out, picked.size()), rounded));
    }
  }
}

std::vector<uint16_t> ToBf16(const std::vector<float>& values) {
  std::vector<uint16_t> bits(values.size());
  std::transform(values.begin(), values.end(), bits.begin(), Bf16Bits);
  return bits;
}

// Cut anywhere, in any order, into memory that held something else; in f32 or as the format has them.
TEST_P(DeviceContractTest, ImagesDoNotDependOnHowTheirRowsCome) {
  const Device& device = *devices_.back();
  const auto pack = [&](int num_rows, int inputs, const std::vector<float>& rows,
                        WeightFormat format, auto pack_rows) {
    const std::vector<uint16_t> bf16 = ToBf16(rows);
    std::vector<int> cuts = {0, num_rows};
    for (int i = Int(0, 5); i > 0; --i) cuts.push_back(Int(0, num_rows));
    std::sort(cuts.begin(), cuts.end());
    for (const int i : Shuffled(static_cast<int>(cuts.size()) - 1)) {
      WeightRows all = absl::MakeConstSpan(rows);
      if (format == WeightFormat::kBF16 && Int(0, 1) == 1) all = absl::MakeConstSpan(bf16);
      pack_rows(
          SomeElements(all, int64_t{cuts[i]} * inputs, int64_t{cuts[i + 1] - cuts[i]} * inputs),
          cuts[i]);
    }
  };
  for (const StepTypes& types : StepTypesUnderTest()) {
    const int outputs = Int(1, 150), inputs = Int(1, 70);
    std::vector<float> rows = Floats(size_t(outputs) * inputs);
    const float odd[] = {-0.0f, 1e-40f, 3.38e38f, INFINITY, -INFINITY, NAN};
    for (float x : odd) rows[Int(0, static_cast<int>(rows.size()) - 1)] = x;
    for (const bool lookup : {false, true}) {
      const Matrix shape = {nullptr, outputs, inputs, types.weights, lookup};
      std::vector<char> whole(device.MatrixBytes(outputs, inputs, types.weights), 1);
      std::vector<char> pieces(whole.size(), 2);
      device.PackMatrixRows(rows, 0, shape, whole.data());
      pack(outputs, inputs, rows, types.weights, [&](const WeightRows& part, int first) {
        device.PackMatrixRows(part, first, shape, pieces.data());
      });
      EXPECT_EQ(pieces, whole);
    }
    const UnitShape unit = {outputs, inputs, types.weights};
    std::vector<char> whole(device.UnitBytes(unit), 1), pieces(whole.size(), 2);
    device.PackUnit(rows, rows, rows, unit, whole.data());
    for (const UnitTensor tensor : {UnitTensor::kUp, UnitTensor::kDown, UnitTensor::kGate}) {
      const bool down = tensor == UnitTensor::kDown;
      pack(down ? inputs : outputs, down ? outputs : inputs, rows, types.weights,
           [&](const WeightRows& part, int first) {
             device.PackUnitRows(tensor, part, first, unit, pieces.data());
           });
    }
    EXPECT_EQ(pieces, whole);
  }
}

// More bytes than a writer stages, from several threads, each with an image of its own.
TEST_P(DeviceContractTest, WritersOfSeveralThreadsBringImagesToTheirPlace) {
  constexpr int kThreads = 3;
  ComposedDevice& device = *devices_.back();
  for (const StepTypes& types : StepTypesUnderTest()) {
    Rig rig(device);
    const int outputs = Int(2200, 2300), inputs = Int(3000, 3100);
    const Matrix shape = {nullptr, outputs, inputs, types.weights};
    const size_t bytes = device.MatrixBytes(outputs, inputs, types.weights);
    std::vector<float> values(size_t(outputs + kThreads) * inputs);  // thread t begins at row t
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 40503 % 65537);
    const std::vector<uint16_t> bf16 = ToBf16(values);
    void* images[kThreads];
    std::vector<std::unique_ptr<ImageWriter>> writers;
    for (void*& image : images) {
      image = rig.Bytes(bytes);
      writers.push_back(*device.MakeImageWriter());
    }
    const auto write = [&](int t) {
      WeightRows all = absl::MakeConstSpan(values);
      if (types.weights == WeightFormat::kBF16 && t % 2 == 0) all = absl::MakeConstSpan(bf16);
      for (int64_t first = 0, n; first < outputs; first += n) {
        n = std::min<int64_t>(32, outputs - first);
        writers[t]->PackMatrixRows(SomeElements(all, (t + first) * inputs, n * inputs), first,
                                   shape, images[t]);
      }
      EXPECT_TRUE(writers[t]->Finish().ok());
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) threads.emplace_back(write, t);
    for (std::thread& thread : threads) thread.join();
    for (int t = 0; t < kThreads; ++t) {
      std::vector<char> expected(bytes);
      device.PackMatrixRows(
          absl::MakeConstSpan(values).subspan(size_t(t) * inputs, size_t(outputs) * inputs), 0,
          shape, expected.data());
      EXPECT_TRUE(rig.Get(static_cast<const char*>(images[t]), bytes) == expected)
          << "thread " << t;
    }
  }
}

TEST_P(DeviceContractTest, SlotsAreResolvedAndScattered) {
  ComposedDevice& device = *devices_[0];
  Rig rig(device);
  const RowCount count = rig.Rows(3);
  const int32_t* slots = rig.Put<int32_t>({2, 0, 1});
  int32_t* tokens = rig.Put<int32_t>({10, 11, 12});
  int32_t* routes = rig.Put<int32_t>({0, 1, 2});
  int32_t* last_token = rig.Put<int32_t>({50, 51, 52});
  device.ResolveLate(count, rig.Put<uint8_t>({1, 0, 1}), slots, last_token,
                     rig.Put<int32_t>({5, 6, 7}), tokens, routes);
  EXPECT_THAT(rig.Get(tokens, 3), ElementsAre(52, 11, 51));
  EXPECT_THAT(rig.Get(routes, 3), ElementsAre(7, 1, 6));
  device.ScatterToSlots(count, tokens, slots, last_token);
  EXPECT_THAT(rig.Get(last_token, 3), ElementsAre(11, 51, 52));
}

TEST_P(DeviceContractTest, NumericsIdNamesTheTypesAndIsOneForTheFamily) {
  EXPECT_NE(devices_[0]->numerics_id(kF32Types), devices_[0]->numerics_id(kBF16Types));
  for (const auto& device : devices_) {
    EXPECT_EQ(device->numerics_id(kF32Types), devices_[0]->numerics_id(kF32Types));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceContractTest, testing::ValuesIn(FamiliesUnderTest()),
                         FamilyName);
INSTANTIATE_TEST_SUITE_P(Devices, DeviceFfnContractTest, testing::ValuesIn(FamiliesUnderTest()),
                         FamilyName);

}  // namespace
}  // namespace pregate

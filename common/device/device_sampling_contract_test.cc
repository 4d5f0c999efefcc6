// Contract of Device: argmax, scores and sampling.
#include <algorithm>
#include <cmath>
#include <limits>

#include "common/device/device_contract.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

using testing::Each;
using testing::ElementsAre;

struct Draws {
  std::vector<int32_t> tokens;
  std::vector<uint8_t> not_finite;
};

// Row r: logits [vocab], params[slot], seed of the slot, position; slot = r.
struct SampleCase {
  int vocab = 0;
  std::vector<float> logits;
  std::vector<SamplingParams> params;
  std::vector<uint64_t> seeds;
  std::vector<int32_t> positions;
  std::vector<uint32_t> seen;

  void AddRow(const std::vector<float>& row, const SamplingParams& p, uint64_t seed, int position) {
    vocab = static_cast<int>(row.size());
    logits.insert(logits.end(), row.begin(), row.end());
    params.push_back(p);
    seeds.push_back(seed);
    positions.push_back(position);
    seen.resize(params.size() * ((vocab + 31) / 32));
  }
};

Draws RunSample(ComposedDevice& device, const SampleCase& c) {
  Rig rig(device);
  const int n = static_cast<int>(c.params.size());
  SampleArgs args;
  args.params = rig.Put(c.params);
  args.seeds = rig.Put(c.seeds);
  args.seen = rig.Put(c.seen);
  std::vector<int32_t> slots(n);
  for (int r = 0; r < n; ++r) slots[r] = r;
  args.seq_slots = rig.Put(slots);
  args.positions = rig.Put(c.positions);
  args.not_finite = static_cast<uint8_t*>(rig.Bytes(n + 3));
  args.tokens = static_cast<int32_t*>(rig.Bytes((n + 3) * sizeof(int32_t)));
  device.SampleTokens(rig.Rows(n), c.vocab, rig.Put(c.logits), args);
  return {rig.Get(args.tokens, n), rig.Get(args.not_finite, n)};
}

class DeviceSamplingContractTest : public DeviceContractTest {
 protected:
  SamplingParams RandomParams() {
    SamplingParams p;
    p.temperature = Int(0, 3) == 0 ? 0 : 0.1f * Int(1, 30);
    if (Int(0, 1) == 1) p.top_k = Int(1, 60);
    if (Int(0, 1) == 1) p.top_p = 0.01f * Int(0, 99);
    if (Int(0, 2) == 0) p.min_p = 0.01f * Int(1, 99);
    if (Int(0, 1) == 1) p.repetition_penalty = 0.8f + 0.1f * Int(0, 9);
    return p;
  }
  int32_t SampleOne(const std::vector<float>& logits, const SamplingParams& p, uint64_t seed = 1,
                    int position = 0) {
    SampleCase c;
    c.AddRow(logits, p, seed, position);
    return RunSample(*devices_[0], c).tokens[0];
  }
};

// Near ties (a cumulative probability next to top_p, two keys next to each other) may fall the
// other way than in double precision: about one draw in ten thousand.
TEST_P(DeviceSamplingContractTest, DrawsWhatTheReferenceDraws) {
  for (const int vocab : {1, 5, 100, 3001}) {
    SampleCase c;
    for (int r = 0; r < 200; ++r) {
      std::vector<float> row = Floats(vocab, 0.5f * Int(1, 12));
      if (Int(0, 3) == 0) {
        for (float& x : row) x = std::round(x);  // many ties
      }
      c.AddRow(row, RandomParams(), random_(), Int(0, 10000));
    }
    const int words = (vocab + 31) / 32;
    for (int i = 0; i < 50 * vocab; ++i) {
      const int id = Int(0, vocab - 1);
      c.seen[Int(0, 199) * words + id / 32] |= 1u << (id % 32);
    }
    const std::vector<int32_t> expected = RunSample(*reference_, c).tokens;
    for (const auto& device : devices_) {
      const Draws draws = RunSample(*device, c);
      EXPECT_THAT(draws.not_finite, Each(0));
      int different = 0;
      for (size_t r = 0; r < expected.size(); ++r) different += draws.tokens[r] != expected[r];
      EXPECT_LE(different, 2) << "of 200, vocabulary " << vocab << " on " << device->name();
    }
  }
}

TEST_P(DeviceSamplingContractTest, ARowsDrawDoesNotDependOnTheBatch) {
  SampleCase all;
  for (int r = 0; r < 30; ++r) all.AddRow(Floats(777, 3), RandomParams(), random_(), r);
  const std::vector<int32_t> together = RunSample(*devices_.back(), all).tokens;
  for (int r = 0; r < 30; ++r) {
    const auto begin = all.logits.begin() + r * 777;
    EXPECT_EQ(SampleOne({begin, begin + 777}, all.params[r], all.seeds[r], r), together[r]);
  }
}

TEST_P(DeviceSamplingContractTest, FrequenciesAreThoseOfTheSoftmax) {
  constexpr int kDraws = 20000, kVocab = 8;
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 0.5f, 2.0f, -0.5f, 1.5f, 0.25f};
  SamplingParams params;
  params.temperature = 0.8f;
  SampleCase c;
  for (int i = 0; i < kDraws; ++i) c.AddRow(logits, params, 20240607, i);
  std::vector<int> counts(kVocab);
  for (const int32_t token : RunSample(*devices_[0], c).tokens) ++counts[token];
  double total = 0, chi_square = 0;
  for (const float x : logits) total += std::exp(x / 0.8);
  for (int i = 0; i < kVocab; ++i) {
    const double expected = kDraws * std::exp(logits[i] / 0.8) / total;
    chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi_square, 24.3);  // 7 degrees of freedom, p = 0.001
}

TEST_P(DeviceSamplingContractTest, GreedyTakesTheLowestIdAmongTheLargest) {
  EXPECT_EQ(SampleOne({1, 3, 3, 2, 3}, {}), 1);
  EXPECT_EQ(SampleOne({-5}, {}), 0);
}

TEST_P(DeviceSamplingContractTest, FiltersKeepAtLeastTheLargest) {
  const std::vector<float> logits = {0, 2, 2, 1, 2};
  for (int position = 0; position < 50; ++position) {
    SamplingParams p;
    p.temperature = 100;
    p.top_k = 1;  // among ties the lowest id
    EXPECT_EQ(SampleOne(logits, p, 9, position), 1);
    p.top_k = 2;
    EXPECT_THAT(SampleOne(logits, p, 9, position), testing::AnyOf(1, 2));
    p.top_k = 0;
    p.top_p = 0;
    EXPECT_EQ(SampleOne(logits, p, 9, position), 1);
    p.top_p = 1;
    p.min_p = 1;
    EXPECT_THAT(SampleOne(logits, p, 9, position), testing::AnyOf(1, 2, 4));
  }
}

TEST_P(DeviceSamplingContractTest, PenaltyTouchesSeenTokensOnly) {
  ComposedDevice& device = *devices_[0];
  SampleCase c;
  SamplingParams p;
  p.repetition_penalty = 2;
  c.AddRow({1, 3, 2, -1}, p, 1, 0);
  c.AddRow({-1, -3, -2, -1.5f}, p, 1, 0);
  Rig rig(device);
  uint32_t* seen = rig.Put(c.seen);
  device.MarkSeen(rig.Rows(3), rig.Put<int32_t>({1, 0, 3}), rig.Put<int32_t>({0, 1, 1}), 4, seen);
  c.seen = rig.Get(seen, 2);
  EXPECT_THAT(c.seen, ElementsAre(2u, 9u));
  EXPECT_THAT(RunSample(device, c).tokens,
              ElementsAre(2, 0));  // 3 / 2 < 2; -1 * 2 = -2 ties, lower id
}

TEST_P(DeviceSamplingContractTest, RowsThatAreNotFiniteAreReportedAndHarmNoOther) {
  SampleCase c;
  SamplingParams p;
  p.temperature = 1;
  std::vector<float> rows[4] = {Floats(100), Floats(100), Floats(100), Floats(100)};
  rows[0][99] = std::numeric_limits<float>::quiet_NaN();
  rows[2][Int(0, 98)] = -std::numeric_limits<float>::infinity();
  for (const auto& row : rows) c.AddRow(row, p, 5, 6);
  const Draws draws = RunSample(*devices_.back(), c);
  EXPECT_THAT(draws.not_finite, ElementsAre(1, 0, 1, 0));
  EXPECT_EQ(draws.tokens[0], 0);
  EXPECT_EQ(draws.tokens[2], 0);
  EXPECT_EQ(draws.tokens[1], SampleOne(rows[1], p, 5, 6));
  EXPECT_EQ(draws.tokens[3], SampleOne(rows[3], p, 5, 6));
}

TEST_P(DeviceSamplingContractTest, ATemperatureNextToZeroIsGreedy) {
  SamplingParams p;
  p.temperature = 1e-40f;
  p.top_k = 3;
  p.top_p = 0.9f;
  EXPECT_EQ(SampleOne({1, 5, 4, -3}, p), 1);
}

TEST_P(DeviceSamplingContractTest, ScoresAndArgMaxAgreeWithTheReference) {
  const int vocab = Int(1, 5000), n = Int(1, 20);
  const std::vector<float> logits = Floats(size_t(n) * vocab, 4);
  std::vector<int32_t> targets(n);
  for (int r = 0; r < n; ++r) {
    const auto row = logits.begin() + int64_t{r} * vocab;
    targets[r] =
        r % 2 == 0 ? Int(0, vocab - 1) : static_cast<int>(std::max_element(row, row + vocab) - row);
  }
  std::vector<float> logprobs[2];
  std::vector<uint8_t> greedy[2];
  std::vector<int32_t> best[2];
  ComposedDevice* const devices[] = {devices_.back().get(), reference_.get()};
  for (int i = 0; i < 2; ++i) {
    Rig rig(*devices[i]);
    const float* x = rig.Put(logits);
    auto* out = static_cast<float*>(rig.Bytes(4 * (n + 3)));
    auto* is_greedy = static_cast<uint8_t*>(rig.Bytes(n + 3));
    auto* top = static_cast<int32_t*>(rig.Bytes(4 * (n + 3)));
    devices[i]->ScoreTokens(rig.Rows(n), vocab, x, {rig.Put(targets), out, is_greedy});
    devices[i]->ArgMax(rig.Rows(n), vocab, x, top);
    logprobs[i] = rig.Get(out, n);
    greedy[i] = rig.Get(is_greedy, n);
    best[i] = rig.Get(top, n);
  }
  EXPECT_LT(RelativeError(logprobs[0], logprobs[1]), 1e-6);
  EXPECT_EQ(greedy[0], greedy[1]);
  EXPECT_EQ(best[0], best[1]);
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceSamplingContractTest,
                         testing::ValuesIn(FamiliesUnderTest()), FamilyName);

}  // namespace
}  // namespace pregate

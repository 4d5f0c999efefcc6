#include "refactor/compress_delta.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

NamedTensors Random() {
  at::manual_seed(1);
  return {{"norm", at::randn({12})},
          {"low", at::mm(at::randn({40, 3}), at::randn({3, 24}))},
          {"tall", at::randn({48, 16})},
          {"same", at::zeros({4, 4})}};
}

TEST(CompressDeltaTest, WithoutABudgetAllIsInt8AndVectorsExact) {
  const NamedTensors differences = Random();
  const CompressedDeltas out = CompressDeltas(differences, 0);
  EXPECT_EQ(out.deltas.size(), 3u);  // what did not change is not stored
  EXPECT_EQ(out.deltas.at("norm").exact[3], differences.at("norm")[3].item<float>());
  EXPECT_EQ(out.deltas.at("low").full.rows, 40);
  EXPECT_LT(out.error, 0.01);
  EXPECT_EQ(out.bytes, 12 * 4 + 40 * 28 + 48 * 20);
}

TEST(CompressDeltaTest, ALowRankDifferenceCostsItsRank) {
  const CompressedDeltas out = CompressDeltas({{"low", Random().at("low")}}, 3 * (40 + 24 + 8));
  EXPECT_EQ(out.deltas.at("low").left.rows, 3);
  EXPECT_LT(out.error, 0.02);
}

TEST(CompressDeltaTest, KeepsWithinItsBudgetAndALargerOneLosesLess) {
  double before = 1.01;
  for (const int64_t budget : {200, 500, 1000, 1500, 4000}) {
    const CompressedDeltas out = CompressDeltas(Random(), budget);
    EXPECT_LE(out.bytes, budget);
    EXPECT_LT(out.error, before);
    before = out.error;
    for (const auto& [name, delta] : out.deltas) EXPECT_TRUE(CheckDelta(name, delta).ok()) << name;
  }
  EXPECT_LT(before, 0.01);
}

}  // namespace
}  // namespace pregate

#include "refactor/compress_delta.h"

#include <gtest/gtest.h>

#include "refactor/code_grid.h"

namespace pregate {
namespace {

NamedTensors Random() {
  at::manual_seed(1);
  return {{"norm", at::randn({12})},
          {"large", 3 * at::randn({40, 24})},
          {"small", 0.1 * at::randn({48, 18})},
          {"odd", at::randn({7, 33})},
          {"same", at::zeros({4, 4})}};
}

// The Frobenius norm of what decoding misses over that of all differences.
double ErrorOf(const NamedTensors& differences, const WeightDeltas& deltas) {
  double all = 0, lost = 0;
  for (const auto& [name, difference] : differences) {
    at::Tensor missing = -difference;
    if (deltas.contains(name)) {
      AddDelta(deltas.at(name), {missing.data_ptr<float>(), static_cast<size_t>(missing.numel())});
    }
    all += difference.square().sum().item<double>();
    lost += missing.square().sum().item<double>();
  }
  return std::sqrt(lost / all);
}

int64_t BytesOf(const WeightDeltas& deltas) {
  int64_t bytes = 0;
  for (const auto& [name, delta] : deltas) bytes += delta.bytes();
  return bytes;
}

TEST(CompressDeltaTest, WithoutABudgetAllHasEightBitsAndVectorsAreExact) {
  const NamedTensors differences = Random();
  const CompressedDeltas out = CompressDeltas(differences, 0);
  EXPECT_EQ(out.deltas.size(), 4u);  // what did not change is not stored
  EXPECT_EQ(out.deltas.at("norm").exact[3], differences.at("norm")[3].item<float>());
  for (const char* name : {"large", "small", "odd"}) {
    EXPECT_EQ(out.deltas.at(name).coded.bits, 8) << name;
  }
  EXPECT_EQ(out.bits, 8);
  EXPECT_LT(out.error, 0.01);
}

TEST(CompressDeltaTest, KeepsWithinItsBudgetAndALargerOneLosesLess) {
  const NamedTensors differences = Random();
  double before = 1.01;
  for (int64_t budget = 1; budget < 2500; budget += 7) {
    const CompressedDeltas out = CompressDeltas(differences, budget);
    EXPECT_LE(out.bytes, budget);
    EXPECT_EQ(out.bytes, BytesOf(out.deltas));
    EXPECT_NEAR(out.error, ErrorOf(differences, out.deltas), 1e-4) << budget;
    EXPECT_LE(out.error, before) << budget;
    before = out.error;
    for (const auto& [name, delta] : out.deltas) EXPECT_TRUE(CheckDelta(name, delta).ok()) << name;
  }
  EXPECT_LT(before, 0.01);
}

TEST(CompressDeltaTest, BitsGoWhereTheyGainMost) {
  const NamedTensors differences = Random();
  // Room for the vector and one matrix in one bit.
  const CompressedDeltas first = CompressDeltas(differences, 12 * 4 + 40 * (3 + 2) + 8);
  EXPECT_EQ(first.deltas.size(), 2u);
  EXPECT_EQ(first.deltas.at("large").coded.bits, 1);
  EXPECT_EQ(first.bytes, 256);
  EXPECT_NEAR(first.bits, 40 * 24 / (40. * 24 + 48 * 18 + 7 * 33), 1e-9);
  const CompressedDeltas more = CompressDeltas(differences, 900);
  const int large = more.deltas.at("large").coded.bits, odd = more.deltas.at("odd").coded.bits;
  EXPECT_GT(large, odd);
  EXPECT_GT(odd, more.deltas.contains("small") ? more.deltas.at("small").coded.bits : 0);
}

TEST(CompressDeltaTest, AVectorThatDoesNotFitIsLeftOut) {
  const CompressedDeltas out = CompressDeltas({{"norm", at::ones({12})}}, 47);
  EXPECT_TRUE(out.deltas.empty());
  EXPECT_EQ(out.bytes, 0);
  EXPECT_EQ(out.error, 1);
}

TEST(CodeGridTest, RunsOnWhatIsStoredAndPassesTheGradientOn) {
  at::manual_seed(11);
  const at::Tensor dense = at::randn({7, 33}), first = dense + 0.1 * at::randn({7, 33});
  const CompressedDeltas coded = CompressDeltas({{"w", first - dense}}, 100);
  ASSERT_EQ(coded.deltas.at("w").coded.bits, 2);
  const CodeGrid grid({{"w", dense}, {"left out", dense}}, coded.deltas);
  const at::Tensor weight = (first + 0.02 * at::randn({7, 33})).requires_grad_();
  const at::Tensor stored = grid.Stored("w", weight);
  at::Tensor decoded = dense.clone();
  const CompressedDeltas again = CompressOnGrid({{"w", (weight - dense).detach()}}, coded.deltas);
  AddDelta(again.deltas.at("w"), {decoded.data_ptr<float>(), 7 * 33});
  EXPECT_EQ(again.bytes, coded.bytes);
  EXPECT_TRUE(at::allclose(stored, decoded, 1e-6, 1e-6));
  EXPECT_FALSE(at::allclose(stored, weight, 1e-2, 1e-2));
  (stored * dense).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad(), dense));
  EXPECT_TRUE(at::allclose(grid.Stored("left out", weight), dense, 1e-6, 1e-6));
}

TEST(CodeGridTest, WhatIsBeyondTheLevelsComesBackToTheirEdge) {
  at::manual_seed(12);
  const at::Tensor dense = at::randn({7, 33}), first = dense + 0.1 * at::randn({7, 33});
  const CompressedDeltas coded = CompressDeltas({{"w", first - dense}}, 100);
  const CodedMatrix& matrix = coded.deltas.at("w").coded;
  const CodeGrid grid({{"w", dense}}, coded.deltas);
  const at::Tensor weight = (dense + at::randn({7, 33})).requires_grad_();
  const at::Tensor before = weight.detach().clone();
  const at::Tensor stored = grid.Stored("w", weight);
  const at::Tensor reach = at::tensor(matrix.scales).unsqueeze(1) * (1 << matrix.bits) / 2;
  const at::Tensor beyond = (before - dense).abs().gt(reach * 1.001);
  ASSERT_GT(beyond.sum().item<int64_t>(), 0);
  EXPECT_TRUE(at::allclose((weight - dense).abs().masked_select(beyond),
                           reach.expand({7, 33}).masked_select(beyond), 1e-4, 1e-5));
  const at::Tensor within = beyond.logical_not();
  EXPECT_TRUE(at::allclose(weight.masked_select(within), before.masked_select(within), 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(grid.Stored("w", weight), stored, 1e-6, 1e-6));
}

}  // namespace
}  // namespace pregate

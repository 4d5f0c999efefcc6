#include "refactor/weight_delta.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace pregate {
namespace {

std::vector<float> Random(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}

TEST(WeightDeltaTest, Int8ErrsByHalfAStepOfItsRowAtMost) {
  const std::vector<float> values = Random(5 * 40, 1);
  const Int8Matrix rounded = RoundToInt8(values, 5, 40);
  std::vector<float> row(40);
  for (int r = 0; r < 5; ++r) {
    DecodeRow(rounded, r, absl::MakeSpan(row));
    for (int c = 0; c < 40; ++c) {
      EXPECT_LE(std::abs(row[c] - values[r * 40 + c]), 0.5001f * rounded.scales[r]);
    }
  }
  EXPECT_EQ(rounded.bytes(), 5 * 40 + 5 * 4);
}

TEST(WeightDeltaTest, ARowOfZerosStaysSo) {
  const Int8Matrix rounded = RoundToInt8(std::vector<float>(6, 0.f), 2, 3);
  std::vector<float> row(3, 7.f);
  DecodeRow(rounded, 1, absl::MakeSpan(row));
  EXPECT_EQ(row, std::vector<float>(3, 0.f));
}

TEST(WeightDeltaTest, FactorsAddTheirProduct) {
  const int64_t rows = 7, columns = 9, rank = 3;
  const std::vector<float> left = Random(rank * rows, 2), right = Random(rank * columns, 3);
  WeightDelta delta{.shape = {rows, columns},
                    .left = RoundToInt8(left, rank, rows),
                    .right = RoundToInt8(right, rank, columns)};
  ASSERT_TRUE(CheckDelta("w", delta).ok());
  std::vector<float> values(rows * columns, 1.f);
  AddDelta(delta, absl::MakeSpan(values));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      double product = 1;
      for (int64_t k = 0; k < rank; ++k) product += left[k * rows + r] * right[k * columns + c];
      EXPECT_NEAR(values[r * columns + c], product, 1e-5);
    }
  }
}

TEST(WeightDeltaTest, NamesWhatIsWrong) {
  const auto error = [](const WeightDelta& delta) {
    return std::string(CheckDelta("some.weight", delta).message());
  };
  EXPECT_NE(error({.shape = {2}}).find("some.weight: has 0 forms"), std::string::npos);
  EXPECT_NE(error({.shape = {3}, .exact = {1, 2}}).find("another shape"), std::string::npos);
  EXPECT_NE(
      error({.shape = {1}, .exact = {std::numeric_limits<float>::quiet_NaN()}}).find("not finite"),
      std::string::npos);
  WeightDelta full{.shape = {2, 3}, .full = RoundToInt8(Random(6, 4), 2, 3)};
  EXPECT_EQ(error(full), "");
  full.full.values.pop_back();
  EXPECT_NE(error(full).find("full has"), std::string::npos);
  WeightDelta factors{.shape = {2, 3},
                      .left = RoundToInt8(Random(2, 5), 1, 2),
                      .right = RoundToInt8(Random(6, 6), 2, 3)};
  EXPECT_NE(error(factors).find("left has 1 rows, right 2"), std::string::npos);
}

}  // namespace
}  // namespace pregate

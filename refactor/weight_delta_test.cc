#include "refactor/weight_delta.h"

#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

std::vector<float> Normal(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<float> values(n);
  for (float& x : values) x = normal(random);
  return values;
}

double SquareOf(const std::vector<float>& values) {
  double square = 0;
  for (const float x : values) square += double{x} * x;
  return square;
}

std::vector<float> Decoded(const CodedMatrix& coded) {
  std::vector<float> values(coded.rows * coded.columns, 0.f);
  AddDelta({.shape = {coded.rows, coded.columns}, .coded = coded}, absl::MakeSpan(values));
  return values;
}

double SquareBetween(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0;
  for (size_t i = 0; i < a.size(); ++i) square += std::pow(double{a[i]} - b[i], 2);
  return square;
}

float NearestLevel(float x, int bits, float scale) {
  const float middle = static_cast<float>((1 << bits) - 1) / 2;
  float nearest = std::numeric_limits<float>::infinity();
  for (int code = 0; code < 1 << bits; ++code) {
    const float level = (static_cast<float>(code) - middle) * scale;
    if (std::abs(x - level) < std::abs(x - nearest)) nearest = level;
  }
  return nearest;
}

// Mean square of what a mid-rise quantiser of that step loses of a standard normal number.
double NormalLoss(int bits, double step) {
  constexpr double kWidth = 1e-3;
  const double last = (1 << bits) / 2 - 1;  // of the positive levels
  double loss = 0;
  for (double x = kWidth / 2; x < 8; x += kWidth) {
    const double level = (std::min(std::floor(x / step), last) + 0.5) * step;
    loss += 2 * kWidth * std::exp(-x * x / 2) / std::sqrt(2 * M_PI) * std::pow(x - level, 2);
  }
  return loss;
}

TEST(WeightDeltaTest, NormalMatricesLoseWhatTheBestUniformQuantiserLoses) {
  const int64_t columns = 200'000;
  const std::vector<float> values = Normal(3 * columns, 1);
  for (int bits = 1; bits <= kCodeBitsMax; ++bits) {
    double best = 1;
    for (double step = 1.7; step > 0.02; step *= 0.995) {
      best = std::min(best, NormalLoss(bits, step));
    }
    double lost = 0;
    Encode(values, 3, columns, bits, &lost);
    EXPECT_NEAR(lost / SquareOf(values) / best, 1, 0.02) << bits;
  }
}

TEST(WeightDeltaTest, AnyMatrixDecodesToItsNearestLevels) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 300; ++i) {
    const int64_t rows = 1 + random() % 6, columns = 1 + random() % 70;
    const int bits = 1 + static_cast<int>(random() % kCodeBitsMax);
    std::vector<float> values = Normal(rows * columns, random());
    for (uint32_t outliers = random() % 4; outliers > 0; --outliers) {
      values[random() % values.size()] *= 30;
    }
    double lost = 0;
    const CodedMatrix coded = Encode(values, rows, columns, bits, &lost);
    const WeightDelta delta{.shape = {rows, columns}, .coded = coded};
    const absl::Status status = CheckDelta("w", delta);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(delta.bytes(), rows * ((columns * bits + 7) / 8 + 2) + 8);
    const std::vector<float> decoded = Decoded(coded);
    for (size_t k = 0; k < values.size(); ++k) {
      const float scale = coded.scales[k / columns];
      const float nearest = NearestLevel(values[k], bits, scale);
      ASSERT_NEAR(std::abs(values[k] - decoded[k]), std::abs(values[k] - nearest), 1e-4 * scale);
    }
    EXPECT_NEAR(lost, SquareBetween(values, decoded), 1e-4 * SquareOf(values));
    EXPECT_LE(lost, SquareOf(values));
  }
}

TEST(WeightDeltaTest, OneBitIsTheSignAndTheMeanMagnitude) {
  const std::vector<float> values = {1, -2, 3, -4, 5};
  const std::vector<float> decoded = Decoded(Encode(values, 1, 5, 1));
  EXPECT_EQ(decoded, (std::vector<float>{3, -3, 3, -3, 3}));
}

// Of a mid-rise quantiser with that step.
float LevelOf(float x, int bits, float step) {
  const float last = static_cast<float>((1 << bits) / 2 - 1);  // of the positive levels
  return std::copysign((std::min(std::floor(std::abs(x) / step), last) + 0.5f) * step, x);
}

TEST(WeightDeltaTest, NoOtherScaleOfARowLosesMuchLess) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 3 * kCodeBitsMax; ++i) {
    const int bits = 1 + i % kCodeBitsMax;
    std::vector<float> values = Normal(1000 + random() % 100, random());
    // Among them one 20 or 1000 times the others.
    if (i >= kCodeBitsMax) values[random() % 1000] = i < 2 * kCodeBitsMax ? 0.2f : 10.f;
    double best = SquareOf(values), lost = 0;
    for (float scale = 1e-5f; scale < 20; scale *= 1.02f) {
      double square = 0;
      for (const float x : values) square += std::pow(double{x} - LevelOf(x, bits, scale), 2);
      best = std::min(best, square);
    }
    Encode(values, 1, static_cast<int64_t>(values.size()), bits, &lost);
    // At many bits the loss is jagged: each value near a level counts.
    EXPECT_LE(lost, (bits < 5 ? 1.02 : 1.5) * best) << bits << " " << i;
  }
}

TEST(WeightDeltaTest, ARowOfZerosStaysSo) {
  std::vector<float> values = Normal(33, 2);
  std::fill(values.begin() + 11, values.begin() + 22, 0.f);
  for (const int bits : {1, 3, 8}) {
    const std::vector<float> decoded = Decoded(Encode(values, 3, 11, bits));
    EXPECT_THAT(std::vector<float>(decoded.begin() + 11, decoded.begin() + 22), Each(0.f));
    EXPECT_NE(decoded[10], 0);
    EXPECT_NE(decoded[22], 0);
  }
}

TEST(WeightDeltaTest, IsAddedToWhatIsThere) {
  const CodedMatrix coded = Encode(Normal(12, 3), 3, 4, 4);
  const std::vector<float> decoded = Decoded(coded);
  std::vector<float> values(12, 1.f);
  AddDelta({.shape = {3, 4}, .coded = coded}, absl::MakeSpan(values));
  for (int i = 0; i < 12; ++i) EXPECT_EQ(values[i], 1 + decoded[i]);
  AddDelta({.shape = {12}, .exact = decoded}, absl::MakeSpan(values));
  EXPECT_EQ(values[5], 1 + decoded[5] + decoded[5]);
}

std::string Refusal(const WeightDelta& delta) {
  return std::string(CheckDelta("some.weight", delta).message());
}

TEST(WeightDeltaTest, NamesWhatIsWrongWithAVector) {
  EXPECT_THAT(Refusal({.shape = {2}}), HasSubstr("some.weight: has 0 forms"));
  EXPECT_THAT(Refusal({.shape = {3}, .exact = {1, 2}}), HasSubstr("exact has 2 values"));
  EXPECT_THAT(Refusal({.shape = {1}, .exact = {std::numeric_limits<float>::quiet_NaN()}}),
              HasSubstr("exact[0] = nan is not finite"));
}

TEST(WeightDeltaTest, NamesWhatIsWrongWithCodes) {
  const WeightDelta good{.shape = {2, 5}, .coded = Encode(Normal(10, 4), 2, 5, 3)};
  EXPECT_EQ(Refusal(good), "");
  const auto refusal = [&](const std::function<void(WeightDelta&)>& breaks) {
    WeightDelta delta = good;
    breaks(delta);
    return Refusal(delta);
  };
  for (const int bits : {-1, 0, 9, std::numeric_limits<int>::max()}) {
    EXPECT_THAT(refusal([&](WeightDelta& d) { d.coded.bits = bits; }),
                HasSubstr(absl::StrCat("some.weight: bits = ", bits, " is not 1 to 8")));
  }
  EXPECT_THAT(refusal([](WeightDelta& d) { d.exact = {1}; }), HasSubstr("has 2 forms"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.shape = {10}; }), HasSubstr("another shape"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.shape[1] = 6; }),
              HasSubstr("codes of 2 x 5 values are for another shape"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.shape[1] = d.coded.columns = -5; }),
              HasSubstr("2 x -5"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.coded.codes.pop_back(); }),
              HasSubstr("codes has 3 bytes, 2 rows of 5 codes of 3 bits want 2 each"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.coded.bits = 4; }), HasSubstr("want 3 each"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.coded.scales.push_back(1); }),
              HasSubstr("scale has 3 values for 2 rows"));
  EXPECT_THAT(
      refusal([](WeightDelta& d) { d.coded.scales[1] = -std::numeric_limits<float>::infinity(); }),
      HasSubstr("scale[1] = -inf is not finite"));
  EXPECT_THAT(refusal([](WeightDelta& d) { d.coded.codes[3] = static_cast<int8_t>(0x80); }),
              HasSubstr("codes: row 1 ends in byte 128, of which only 7 bits are codes"));
}

}  // namespace
}  // namespace pregate

#include "refactor/energy_code.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <random>
#include <vector>

namespace pregate {
namespace {

TEST(EnergyCodeTest, SharesComeBackWithinHalfAStep) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  const int n = 1003;  // no multiple of the lanes
  std::vector<float> h(n), w(n), back(n);
  std::vector<uint8_t> codes(n);
  for (int i = 0; i < n; ++i) h[i] = normal(rng) * std::exp(2 * normal(rng)), w[i] = 1 + i % 5;
  double exact = 0;
  for (int i = 0; i < n; ++i) exact += double{h[i]} * h[i] * w[i];

  const float total = EncodeShares(h, w, absl::MakeSpan(codes));
  EXPECT_NEAR(total / exact, 1, 1e-5);
  DecodeShares(codes, absl::MakeSpan(back));
  double sum = 0;
  for (int i = 0; i < n; ++i) {
    const double share = h[i] * h[i] * w[i] / exact;
    if (share > 1e-9) {
      EXPECT_NEAR(back[i] / share, 1, 1.0 / 14) << "neuron " << i;
    }
    sum += back[i];
  }
  EXPECT_NEAR(sum, 1, 0.07);
}

TEST(EnergyCodeTest, TheEndsOfTheRange) {
  std::vector<float> h = {3, 0}, w = {2, 2}, back(2);
  std::vector<uint8_t> codes(2);
  EXPECT_EQ(EncodeShares(h, w, absl::MakeSpan(codes)), 18);
  EXPECT_EQ(codes[0], 255);
  EXPECT_EQ(codes[1], 0);
  DecodeShares(codes, absl::MakeSpan(back));
  EXPECT_NEAR(back[0], 1, 0.07);
  EXPECT_EQ(back[1], 0);

  h = {0, 0};
  EXPECT_EQ(EncodeShares(h, w, absl::MakeSpan(codes)), 0);
  EXPECT_EQ(codes[0], 0);
}

}  // namespace
}  // namespace pregate

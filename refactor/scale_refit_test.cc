#include "refactor/scale_refit.h"

#include <gtest/gtest.h>

#include <iostream>
#include <random>

namespace pregate {
namespace {

TEST(ScaleRefitTest, AKeptNeuronCarriesItsDroppedTwin) {
  // Neuron 2 always equals neuron 0 and has the same column; expert 0 drops it, expert 1 drops 1,
  // which never fires.
  const int width = 3;
  const std::vector<float> down = {1, 0, 1,  //
                                   0, 1, 0};
  ScaleRefit refit(2, width);
  const std::vector<float> first = {1, 2, 1, -2, 1, -2, 3, -1, 3};
  const std::vector<float> second = {1, 0, 1, 2, 0, 2};
  refit.Add(0, first);
  refit.Add(1, second);
  const LayerNeurons neurons{.shared = {}, .own = {{0, 1}, {0, 2}}};
  const auto scales = refit.Solve(down, neurons, 1e-9);
  ASSERT_TRUE(scales.ok()) << scales.status();
  EXPECT_NEAR(scales->own[0][0], 2, 1e-4);
  EXPECT_NEAR(scales->own[0][1], 1, 1e-4);
  EXPECT_NEAR(scales->own[1][0] + scales->own[1][1], 2, 1e-4);
}

// E |W h - W diag(s) h|^2 / E |W h|^2 of one expert.
double RelativeError(const std::vector<float>& h, const std::vector<float>& down, int width,
                     const std::vector<double>& scale) {
  const size_t rows = h.size() / width, hidden = down.size() / width;
  double error = 0, all = 0;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < hidden; ++o) {
      double full = 0, kept = 0;
      for (int j = 0; j < width; ++j) {
        const double term = double{down[o * width + j]} * h[r * width + j];
        full += term;
        kept += scale[j] * term;
      }
      error += (full - kept) * (full - kept);
      all += full * full;
    }
  }
  return error / all;
}

TEST(ScaleRefitTest, NoOtherScalesDoBetter) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  const int width = 9, hidden = 5, rows = 40;
  const LayerNeurons neurons{.shared = {0, 4, 8}, .own = {{1, 2}, {3, 5}}};
  std::vector<float> down(hidden * width);
  for (float& x : down) x = normal(rng);
  std::vector<std::vector<float>> h(2, std::vector<float>(rows * width));
  ScaleRefit refit(2, width);
  for (int d = 0; d < 2; ++d) {
    for (float& x : h[d]) x = normal(rng) + 0.5f;
    refit.Add(d, h[d]);
  }
  const auto scales = refit.Solve(down, neurons, 1e-9);
  ASSERT_TRUE(scales.ok()) << scales.status();

  const auto objective = [&](const LayerScales& s) {
    double sum = 0;
    for (int d = 0; d < 2; ++d) {
      std::vector<double> scale(width, 0);
      for (int i = 0; i < 3; ++i) scale[neurons.shared[i]] = s.shared[i];
      for (int i = 0; i < 2; ++i) scale[neurons.own[d][i]] = s.own[d][i];
      sum += RelativeError(h[d], down, width, scale);
    }
    return sum;
  };
  const double best = objective(*scales);
  EXPECT_LT(best, objective({{1, 1, 1}, {{1, 1}, {1, 1}}}));
  for (int trial = 0; trial < 100; ++trial) {
    LayerScales other = *scales;
    for (float& s : other.shared) s += 0.05f * normal(rng);
    for (auto& own : other.own) {
      for (float& s : own) s += 0.05f * normal(rng);
    }
    EXPECT_GE(objective(other), best - 1e-7);
  }
}

TEST(ScaleRefitTest, AHighRidgeLeavesTheWeightsAlone) {
  ScaleRefit refit(1, 2);
  refit.Add(0, std::vector<float>{1, 1, 2, 2});
  const auto scales = refit.Solve(std::vector<float>{1, 1}, {.shared = {0}, .own = {{}}}, 1e6);
  ASSERT_TRUE(scales.ok()) << scales.status();
  EXPECT_NEAR(scales->shared[0], 1, 1e-3);
}

}  // namespace
}  // namespace pregate

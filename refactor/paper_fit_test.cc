#include "refactor/paper_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <random>
#include <set>

#include "refactor/energy_code.h"

namespace pregate {
namespace {

constexpr int kWidth = 12, kLayers = 2, kExperts = 3;
constexpr int kKept = 6;

// Random activations of tokens of three domains, and a log of them.
struct Calibration {
  std::vector<int32_t> domains;
  std::vector<std::vector<float>> norms;                     // [layers][width]
  std::vector<std::vector<std::vector<float>>> activations;  // [layers][tokens][width]
  std::unique_ptr<ActivationLog> log;

  Calibration(uint32_t seed, int tokens) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    std::vector<std::vector<float>> strength(kExperts, std::vector<float>(kWidth));
    for (auto& of_domain : strength) {
      for (float& x : of_domain) x = std::exp(2 * normal(rng));
    }
    for (int t = 0; t < tokens; ++t) domains.push_back(static_cast<int32_t>(rng() % kExperts));
    const std::string path = testing::TempDir() + "/paper_fit_" + std::to_string(seed);
    std::filesystem::remove(path);
    log = *ActivationLog::Open(path, kLayers, tokens, kWidth);
    for (int l = 0; l < kLayers; ++l) {
      norms.emplace_back(kWidth);
      for (float& x : norms.back()) x = std::exp(normal(rng));
      activations.emplace_back(tokens, std::vector<float>(kWidth));
      for (int t = 0; t < tokens; ++t) {
        std::vector<float>& h = activations[l][t];
        for (int j = 0; j < kWidth; ++j) h[j] = normal(rng) * strength[domains[t]][j];
        std::vector<uint8_t> codes(kWidth);
        const float energy = EncodeShares(h, norms[l], absl::MakeSpan(codes));
        EXPECT_TRUE(log->Write(l, t, codes, {&energy, 1}).ok());
      }
    }
  }

  absl::StatusOr<ExpertFit> Fit(int threads) const {
    ExpertFitOptions options;
    options.widths = {kKept, kKept};
    options.num_threads = threads;
    return FitAsPaper(*log, domains, kExperts, norms, options, [](int) {});
  }
  std::set<int32_t> Mask(const LayerNeurons& neurons, int expert) const {
    std::set<int32_t> mask(neurons.shared.begin(), neurons.shared.end());
    mask.insert(neurons.own[expert].begin(), neurons.own[expert].end());
    return mask;
  }
  double MeanActivation(int layer, int domain, int neuron) const {
    double sum = 0, count = 0;
    for (size_t t = 0; t < domains.size(); ++t) {
      if (domains[t] != domain) continue;
      sum += std::abs(activations[layer][t][neuron]);
      count += 1;
    }
    return sum / count;
  }
};

TEST(PaperFitTest, KeepsTheNeuronsOfHighestMeanActivation) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  const Calibration c(seed, 400);
  const auto fit = c.Fit(2);
  ASSERT_TRUE(fit.ok()) << fit.status();
  for (int l = 0; l < kLayers; ++l) {
    for (int e = 0; e < kExperts; ++e) {
      const std::set<int32_t> mask = c.Mask(fit->layers[l], e);
      ASSERT_EQ(mask.size(), size_t{kKept});
      double least_in = INFINITY, most_out = 0;
      for (int j = 0; j < kWidth; ++j) {
        const double mean = c.MeanActivation(l, e, j);
        if (mask.contains(j)) {
          least_in = std::min(least_in, mean);
        } else {
          most_out = std::max(most_out, mean);
        }
      }
      EXPECT_GT(least_in, most_out * 0.9) << "beyond what the log's codes lose";
    }
  }
}

TEST(PaperFitTest, OverlapsCountATokensOwnNeuronsInEachMask) {
  const uint32_t seed = std::random_device{}();
  std::cout << "seed " << seed << "\n";
  const Calibration c(seed, 300);
  const auto fit = c.Fit(3);
  ASSERT_TRUE(fit.ok()) << fit.status();
  int equal = 0;
  for (size_t t = 0; t < c.domains.size(); ++t) {
    std::vector<float> expected(kExperts);
    for (int l = 0; l < kLayers; ++l) {
      std::vector<int32_t> order(kWidth);
      std::iota(order.begin(), order.end(), 0);
      const std::vector<float>& h = c.activations[l][t];
      std::sort(order.begin(), order.end(),
                [&](int32_t a, int32_t b) { return std::abs(h[a]) > std::abs(h[b]); });
      for (int e = 0; e < kExperts; ++e) {
        const std::set<int32_t> mask = c.Mask(fit->layers[l], e);
        for (int i = 0; i < kKept; ++i) {
          expected[e] += (mask.contains(order[i]) ? 1.f : 0.f) / kKept;
        }
      }
    }
    bool same = true;
    for (int e = 0; e < kExperts; ++e) {
      same &= std::abs(fit->scores[t * kExperts + e] - expected[e]) < 1e-5;
    }
    equal += same ? 1 : 0;
  }
  // Two activations that are nearer to each other than a code's step may change places.
  EXPECT_GT(equal, 0.9 * c.domains.size());
}

TEST(PaperFitTest, NoThreadCountChangesABit) {
  const Calibration c(7, 200);
  const auto one = c.Fit(1), three = c.Fit(3);
  ASSERT_TRUE(one.ok() && three.ok());
  EXPECT_EQ(one->scores, three->scores);
  EXPECT_EQ(one->one_set, three->one_set);
  for (int l = 0; l < kLayers; ++l) EXPECT_EQ(one->layers[l].shared, three->layers[l].shared);
}

}  // namespace
}  // namespace pregate

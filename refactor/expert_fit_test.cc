#include "refactor/expert_fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <random>

#include "refactor/energy_code.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr int kWidth = 12;

// One layer, weights 1: activations [tokens][kWidth] into a log.
std::unique_ptr<ActivationLog> MakeLog(const std::vector<std::vector<float>>& tokens) {
  static int logs = 0;
  const std::string path = testing::TempDir() + "/expert_fit_" + std::to_string(logs++);
  std::filesystem::remove(path);
  auto log = ActivationLog::Open(path, 1, tokens.size(), kWidth);
  EXPECT_TRUE(log.ok()) << log.status();
  const std::vector<float> weights(kWidth, 1);
  for (size_t t = 0; t < tokens.size(); ++t) {
    std::vector<uint8_t> codes(kWidth);
    const float energy = EncodeShares(tokens[t], weights, absl::MakeSpan(codes));
    EXPECT_TRUE((*log)->Write(0, t, codes, {&energy, 1}).ok());
  }
  return *std::move(log);
}

// Neurons 0-3 are always strong, 4-7 in one kind of token, 8-11 in the other.
std::vector<float> Token(int kind, std::mt19937& rng) {
  std::uniform_real_distribution<float> weak(0.01f, 0.1f), strong(1, 2);
  std::vector<float> h(kWidth);
  for (int j = 0; j < kWidth; ++j) {
    h[j] = j < 4 || j / 4 == 1 + kind ? strong(rng) : weak(rng);
  }
  return h;
}

class ExpertFitTest : public testing::Test {
 protected:
  void SetUp() override {
    const uint32_t seed = std::random_device{}();
    std::cout << "seed " << seed << "\n";
    std::mt19937 rng(seed);
    for (int t = 0; t < 600; ++t) {
      domains_.push_back(t % 2);
      // Every tenth token is of the other domain's kind.
      kinds_.push_back(t % 20 >= 18 ? 1 - t % 2 : t % 2);
      tokens_.push_back(Token(kinds_.back(), rng));
    }
    log_ = MakeLog(tokens_);
  }

  absl::StatusOr<ExpertFit> Fit(const ExpertFitOptions& options) {
    return FitExperts(*log_, domains_, 2, {std::vector<float>(kWidth, 1)}, options,
                      [this](int n) { passes_ += n; });
  }

  std::vector<int32_t> domains_, kinds_;
  std::vector<std::vector<float>> tokens_;
  std::unique_ptr<ActivationLog> log_;
  int passes_ = 0;
};

TEST_F(ExpertFitTest, OneSetForAllIsWhatASingleExpertKeeps) {
  const ExpertFitOptions options{.widths = {5}, .rounds = 0};
  const auto fit = Fit(options);
  ASSERT_TRUE(fit.ok()) << fit.status();
  const auto single = FitExperts(*log_, std::vector<int32_t>(domains_.size(), 0), 1,
                                 {std::vector<float>(kWidth, 1)}, options, [](int) {});
  ASSERT_TRUE(single.ok()) << single.status();
  EXPECT_EQ(fit->one_set[0], single->layers[0].shared);
}

TEST_F(ExpertFitTest, FindsSharedAndOwnNeurons) {
  const ExpertFitOptions options{.widths = {8}};
  const auto fit = Fit(options);
  ASSERT_TRUE(fit.ok()) << fit.status();
  EXPECT_THAT(fit->layers[0].shared, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(fit->layers[0].own, ElementsAre(ElementsAre(4, 5, 6, 7), ElementsAre(8, 9, 10, 11)));
  EXPECT_EQ(passes_, FitPasses(options, 1));
}

TEST_F(ExpertFitTest, ATokenSuitsTheExpertOfItsKindNotOfItsDomain) {
  const auto fit = Fit({.widths = {8}});
  ASSERT_TRUE(fit.ok()) << fit.status();
  for (size_t t = 0; t < tokens_.size(); ++t) {
    const float* score = fit->scores.data() + 2 * t;
    EXPECT_EQ(score[1] > score[0], kinds_[t] == 1) << "token " << t;
    double own = 0, all = 0;
    for (int j = 0; j < kWidth; ++j) {
      const double energy = double{tokens_[t][j]} * tokens_[t][j];
      all += energy;
      if (j >= 4 && j < 8) own += energy;
    }
    EXPECT_NEAR(score[0], own / all, 0.04);
  }
}

TEST_F(ExpertFitTest, ThreadsChangeNoBit) {
  const auto one = Fit({.widths = {6}, .num_threads = 1});
  const auto three = Fit({.widths = {6}, .num_threads = 3});
  ASSERT_TRUE(one.ok() && three.ok());
  EXPECT_EQ(one->scores, three->scores);
  EXPECT_EQ(one->layers[0].own, three->layers[0].own);
}

TEST_F(ExpertFitTest, AnExpertWithoutAssignedTokensKeepsItsDomainsStatistic) {
  // Expert 2's domain is a single token of kind 0: expert 0 suits all others at least as well.
  domains_[0] = 2;
  const auto fit = FitExperts(*log_, domains_, 3, {std::vector<float>(kWidth, 1)},
                              {.widths = {8}, .blend = 0.8}, [](int) {});
  ASSERT_TRUE(fit.ok());
  std::vector<int32_t> kept = fit->layers[0].shared;
  kept.insert(kept.end(), fit->layers[0].own[2].begin(), fit->layers[0].own[2].end());
  EXPECT_THAT(kept, UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

}  // namespace
}  // namespace pregate

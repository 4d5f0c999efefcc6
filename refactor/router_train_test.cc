#include "refactor/router_train.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace pregate {
namespace {

constexpr int kVocab = 40, kWidth = 24, kExperts = 3;

// Each token's expert is the one that the id before it names: learnable by attention alone.
struct Task {
  Corpus corpus;
  std::vector<float> embedding, scores;

  explicit Task(uint32_t seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    embedding.resize(kVocab * kWidth);
    for (float& x : embedding) x = 0.1f * normal(rng);
    corpus.domains = {"a", "b", "c"};
    corpus.window_tokens = 16;
    for (int w = 0; w < 48; ++w) {
      corpus.window_domain.push_back(w % kExperts);
      TokenId before = 0;
      for (int t = 0; t < 16; ++t) {
        corpus.tokens.push_back(static_cast<TokenId>(rng() % kVocab));
        for (int e = 0; e < kExperts; ++e) scores.push_back(before % kExperts == e ? 1.f : 0.f);
        before = corpus.tokens.back();
      }
    }
  }

  absl::StatusOr<TrainedRouter> Train(const RouterTrainOptions& options) {
    steps = 0;
    return TrainRouter(embedding, kWidth, corpus, scores, kExperts, 10000, options,
                       [this] { ++steps; });
  }
  int steps = 0;
};

RouterTrainOptions Small() {
  return {.hidden = 384, .heads = 2, .intermediate = 32, .steps = 5, .batch_windows = 8, .seed = 7};
}

TEST(RouterTrainTest, FitsTheModelAndNamesEveryTensor) {
  Task task(1);
  const auto router = task.Train(Small());
  ASSERT_TRUE(router.ok()) << router.status();
  EXPECT_EQ(task.steps, 5);
  EXPECT_EQ(router->spec.hidden, 24);  // the model is narrower than asked
  EXPECT_EQ(router->embed_columns.size(), 24u);
  EXPECT_EQ(router->tensors.size(), 7u * 2 + 3);
  double mean_square = 0;
  for (float x : task.embedding) mean_square += x * x / task.embedding.size();
  EXPECT_NEAR(router->embed_scale * router->embed_scale * mean_square, 1, 1e-3);
  double use = 0;
  for (double share : router->expert_use) use += share;
  EXPECT_NEAR(use, 1, 1e-9);
}

TEST(RouterTrainTest, TheSeedDecidesEveryBit) {
  Task task(2);
  RouterTrainOptions options = Small();
  const auto first = task.Train(options), second = task.Train(options);
  options.seed = 8;
  const auto other = task.Train(options);
  ASSERT_TRUE(first.ok() && second.ok() && other.ok());
  bool differs = false;
  for (const auto& [name, tensor] : first->tensors) {
    EXPECT_EQ(tensor.values, second->tensors.at(name).values) << name;
    differs |= tensor.values != other->tensors.at(name).values;
  }
  EXPECT_TRUE(differs);
}

TEST(RouterTrainTest, LearnsARouteThatRarelyStays) {
  // The previous id's expert is uniform, so a router that has learnt it keeps about a third of the
  // routes and uses all experts alike; an untrained one names few experts.
  Task task(3);
  RouterTrainOptions options = Small();
  options.steps = 200;
  options.persistence = 0;
  options.temperature = 0.3;
  const auto router = task.Train(options);
  ASSERT_TRUE(router.ok()) << router.status();
  EXPECT_NEAR(router->kept_routes, 1.0 / 3, 0.12);
  for (double share : router->expert_use) EXPECT_GT(share, 0.2);
}

TEST(RouterTrainTest, LearnsByThePapersTrainingToo) {
  for (const bool mixed : {false, true}) {
    Task task(5);
    RouterTrainOptions options = Small();
    options.steps = 800;
    options.persistence = 0;
    options.temperature = 0.3;
    options.adam_alone = true;
    options.adam_rate = 1e-2;
    options.cycles = 8;
    options.mixed_loss = mixed;
    const auto router = task.Train(options);
    ASSERT_TRUE(router.ok()) << router.status();
    const std::vector<int32_t> routes =
        RouteTokens(*router, task.embedding, kWidth, task.corpus, "cpu");
    int right = 0;
    for (size_t t = 0; t < routes.size(); ++t) right += task.scores[t * kExperts + routes[t]] > 0;
    EXPECT_GT(right, 0.8 * routes.size()) << (mixed ? "mixed" : "soft");
  }
}

TEST(RouterTrainTest, RefusesARouterWiderThanItsHeadsAllow) {
  Task task(4);
  RouterTrainOptions options = Small();
  options.heads = 16;
  EXPECT_FALSE(task.Train(options).ok());
}

}  // namespace
}  // namespace pregate

#include "refactor/layer_widths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "common/base/status.h"
#include "expert_service/testing/random_model.h"
#include "refactor/causal_model.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

constexpr int kWindow = 16;

Corpus OneWindow(int vocab_size) {
  Corpus corpus{.domains = {"a"}, .window_tokens = kWindow};
  std::mt19937 random(3);
  for (int t = 0; t < kWindow; ++t) {
    corpus.tokens.push_back(static_cast<TokenId>(random() % vocab_size));
  }
  corpus.window_domain.push_back(0);
  return corpus;
}

// [tokens, vocab]: log probabilities behind gains [tokens, intermediate] of `layer`, each token's own.
at::Tensor LogP(CausalModel& model, const at::Tensor& ids, int layer, const at::Tensor& gains) {
  std::vector<at::Tensor> all(model.spec().num_layers, at::ones_like(gains));
  all[layer] = gains;
  model.SetGains(all);
  const at::Tensor routes = at::arange(kWindow, at::kLong).unsqueeze(0);
  return model.Logits(model.Hidden(ids, routes)).to(at::kDouble).log_softmax(-1);
}

// To second order the divergence is half of worth by the square of what changes.
TEST(MeasureWorthTest, IsTheCurvatureOfTheDivergence) {
  const at::NoGradGuard no_grad;
  const auto dense = MakeRandomModel(TinySpec(0), 3);
  const ModelSpec& spec = dense->spec();
  const Corpus corpus = OneWindow(spec.vocab_size);
  constexpr int kDraws = 400;
  std::vector<std::vector<double>> worth(spec.num_layers, std::vector<double>(spec.intermediate));
  for (int draw = 0; draw < kDraws; ++draw) {
    const at::AutoGradMode with_gradients(true);
    const auto drawn = MeasureWorth(*dense, corpus, 1, draw, [](double) {});
    ASSERT_TRUE(drawn.ok()) << drawn.status();
    for (int l = 0; l < spec.num_layers; ++l) {
      for (int j = 0; j < spec.intermediate; ++j) worth[l][j] += (*drawn)[l][j] / kDraws;
    }
  }
  auto model = CausalModel::Load(*dense, kWindow, at::kCPU, at::kFloat, at::kFloat);
  ASSERT_TRUE(model.ok()) << model.status();
  const at::Tensor ids = at::tensor(corpus.tokens).to(at::kLong).unsqueeze(0);
  const at::Tensor ones = at::ones({kWindow, spec.intermediate});
  for (int l = 0; l < spec.num_layers; ++l) {
    const auto largest = std::max_element(worth[l].begin(), worth[l].end());
    const auto neuron = largest - worth[l].begin();
    const at::Tensor log_p = LogP(*model, ids, l, ones);
    double curvature = 0;
    for (int t = 0; t < kWindow; ++t) {
      constexpr double kChange = 0.05;
      at::Tensor gains = ones.clone();
      gains[t][neuron] = 1 - kChange;
      const at::Tensor log_q = LogP(*model, ids, l, gains);
      curvature += 2 * (log_p.exp() * (log_p - log_q)).sum().item<double>() / (kChange * kChange);
    }
    EXPECT_NEAR(*largest, curvature / kWindow, 0.25 * *largest) << "layer " << l;
  }
}

// The draws differ where two distributions do, so sums are compared and not neurons.
TEST(MeasureWorthTest, InBf16ItIsMuchTheSame) {
  const auto dense = MakeRandomModel(TinySpec(0), 3);
  const Corpus corpus = OneWindow(dense->spec().vocab_size);
  constexpr int kDraws = 200;
  double sums[2] = {};
  for (const int bf16 : {0, 1}) {
    for (int draw = 0; draw < kDraws; ++draw) {
      const auto worth = MeasureWorth(
          *dense, corpus, 1, draw, [](double) {}, bf16 ? 0 : INT64_MAX);
      ASSERT_TRUE(worth.ok()) << worth.status();
      for (const auto& layer : *worth) {
        sums[bf16] += std::accumulate(layer.begin(), layer.end(), 0.0) / kDraws;
      }
    }
  }
  EXPECT_NEAR(sums[1], sums[0], 0.15 * sums[0]);
}

TEST(ChooseWidthsTest, ASilentLayerGivesItsWidthToOthers) {
  const auto dense = MakeRandomModel(TinySpec(0), 3);
  const ModelSpec& spec = dense->spec();
  for (float& w : dense->tensors["model.layers.0.mlp.down_proj.weight"]) w = 0;
  const WidthOptions options{.keep = 0.5, .by_layer = "worth", .worth_windows_per_domain = 1};
  const auto widths = ChooseWidths(*dense, OneWindow(spec.vocab_size), options, 1, [](double) {});
  ASSERT_TRUE(widths.ok()) << widths.status();
  EXPECT_EQ((*widths)[0], spec.intermediate / 2 / 2);
  EXPECT_GT((*widths)[1], spec.intermediate / 2);
  EXPECT_LE(std::accumulate(widths->begin(), widths->end(), 0),
            spec.num_layers * spec.intermediate / 2);
}

TEST(CheckWidthsTest, NamesTheLayerAndTheOption) {
  const ModelSpec spec = TinySpec(0);
  WidthOptions options;
  EXPECT_TRUE(CheckWidths(options, spec).ok());
  options.keep_layers.assign(spec.num_layers, 0.5);
  EXPECT_TRUE(CheckWidths(options, spec).ok());
  EXPECT_DOUBLE_EQ(MeanKeep(options), 0.5);
  options.keep_layers[1] = 1.5;
  EXPECT_THAT(CheckWidths(options, spec).message(), HasSubstr("keep-layers: layer 1: keep 1.5"));
  options.keep_layers.pop_back();
  EXPECT_THAT(CheckWidths(options, spec).message(), HasSubstr("the model has"));
}

}  // namespace
}  // namespace pregate

#include "refactor/optimizer.h"

#include <ATen/ops/linalg_svdvals.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace pregate {
namespace {

at::Tensor Leaf(at::IntArrayRef shape) { return at::randn(shape).requires_grad_(true); }

TEST(OrthogonalizedTest, KeepsDirectionsAndMakesThemAlikeLong) {
  at::manual_seed(1);
  for (const auto& [rows, columns] : {std::pair{12, 30}, {30, 12}, {16, 16}, {1, 9}}) {
    const at::Tensor matrices = at::randn({5, rows, columns}) * 3;
    const at::Tensor out = Orthogonalized(matrices, at::kFloat);
    ASSERT_EQ(out.sizes(), matrices.sizes());
    const at::Tensor sizes = at::linalg_svdvals(out);
    EXPECT_LT(sizes.max().item<double>(), 1.3);
    // A square one may have a value next to 0.
    EXPECT_GT(sizes.min().item<double>(), rows == columns ? 0 : 0.5);
    // U V^T times the matrix's transpose is U S U^T: symmetric, with all of its trace.
    const at::Tensor product = at::bmm(out, matrices.transpose(1, 2));
    EXPECT_LT((product - product.transpose(1, 2)).abs().max().item<double>(),
              0.05 * product.abs().max().item<double>());
    for (int64_t i = 0; i < 5; ++i) {  // a batch is its members
      EXPECT_TRUE(
          Orthogonalized(matrices.narrow(0, i, 1), at::kFloat).allclose(out[i], 1e-4, 1e-5));
    }
  }
}

TEST(OptimizerTest, MuonsStepOfAMatrixIsOfTheUsualSizeWhateverTheGradients) {
  at::manual_seed(2);
  for (const double scale : {1e-6, 1.0}) {
    NamedTensors parameters{{"a", Leaf({24, 40})}, {"b", Leaf({24, 40})}, {"v", Leaf({7})}};
    NamedTensors before;
    for (const auto& [name, tensor] : parameters) before[name] = tensor.detach().clone();
    Optimizer optimizer(parameters, {.decay = 0, .muon = true});
    at::Tensor loss = at::zeros({});
    for (const auto& [name, tensor] : parameters) {
      loss = loss + (tensor * at::randn(tensor.sizes())).sum();
    }
    (loss * scale).backward();
    EXPECT_GT(optimizer.Step(0.01), 0);
    for (const char* name : {"a", "b"}) {
      const at::Tensor step = parameters[name].detach() - before[name];
      const double rms = step.square().mean().sqrt().item<double>();
      EXPECT_NEAR(rms, 0.01 * 0.2, 0.01 * 0.2 * 0.25) << scale;
    }
    const at::Tensor step = (parameters["v"].detach() - before["v"]).abs();
    EXPECT_NEAR(step.max().item<double>(), 0.01, 1e-3);  // AdamW's first
    EXPECT_FALSE(parameters["a"].grad().defined());
    EXPECT_FALSE(optimizer.squares().contains("a"));
    EXPECT_TRUE(optimizer.squares().contains("v"));
  }
}

TEST(OptimizerTest, BothFindALeastSquaresSolution) {
  for (const bool muon : {false, true}) {
    at::manual_seed(3);
    const at::Tensor x = at::randn({200, 6}), wanted = at::randn({4, 6});
    NamedTensors parameters{{"w", Leaf({4, 6})}};
    Optimizer optimizer(parameters, {.decay = 0, .muon = muon});
    const auto loss = [&] {
      return (at::linear(x, parameters["w"]) - at::linear(x, wanted)).square().mean();
    };
    const double first = loss().item<double>();
    for (int step = 0; step < 300; ++step) {
      loss().backward();
      optimizer.Step(0.2 * (1 - step / 300.0));
    }
    EXPECT_LT(loss().item<double>(), 1e-3 * first) << muon;
  }
}

TEST(OptimizerTest, AGradientThatIsNotFiniteChangesNothing) {
  for (const bool muon : {false, true}) {
    NamedTensors parameters{{"w", Leaf({4, 6})}};
    const at::Tensor before = parameters["w"].detach().clone();
    Optimizer optimizer(parameters, {.muon = muon});
    (parameters["w"].sum() * std::numeric_limits<float>::infinity()).backward();
    EXPECT_FALSE(std::isfinite(optimizer.Step(0.1)));
    EXPECT_TRUE(parameters["w"].equal(before));
    EXPECT_EQ(optimizer.means()["w"].abs().sum().item<double>(), 0);
  }
}

}  // namespace
}  // namespace pregate

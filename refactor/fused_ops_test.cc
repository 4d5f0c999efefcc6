// On a card: the fused operations and their gradients against LibTorch's own in f32.
#include "refactor/fused_ops.h"

#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/torch.h>

#include <cstdlib>
#include <random>

#include "refactor/code_grid.h"
#include "refactor/compress_delta.h"
#include "refactor/torch_ops.h"

namespace pregate {
namespace {

class FusedOpsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) {
      ASSERT_EQ(std::getenv("PREGATE_REQUIRE_GPU"), nullptr) << "no card";
      GTEST_SKIP() << "no card";
    }
    at::manual_seed(seed_);
  }

  at::Tensor Random(at::IntArrayRef shape, double scale = 1) const {
    return (at::randn(shape, at::kFloat) * scale).to(at::kCUDA, at::kBFloat16);
  }
  static at::Tensor Leaf(const at::Tensor& x, at::ScalarType dtype) {
    return x.detach().clone().to(dtype).requires_grad_();
  }
  // Within what bf16 keeps of the largest.
  static void ExpectClose(const at::Tensor& fused, const at::Tensor& plain, const char* what) {
    ASSERT_TRUE(fused.defined() && plain.defined()) << what;
    const double most = plain.abs().max().item<double>();
    const double worst = (fused.to(at::kFloat) - plain.to(at::kFloat)).abs().max().item<double>();
    EXPECT_LE(worst, most / 128) << what << " of at most " << most;
    EXPECT_GT(most, 0) << what;
  }

  const uint64_t seed_ = std::random_device()();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
};

TEST_F(FusedOpsTest, TurnsAsRopeDoes) {
  for (const int64_t turned : {64, 16}) {
    const int64_t tokens = 37, first = 5, d = 64;
    const at::Tensor angles = at::randn({tokens + first, turned / 2}).to(at::kCUDA);
    const at::Tensor cos = angles.cos(), sin = angles.sin();
    const at::Tensor x = Random({3, tokens, 5, d}), weights = Random({3, tokens, 5, d});
    const at::Tensor mine = Leaf(x, at::kBFloat16), plain = Leaf(x, at::kFloat);
    const at::Tensor out = FusedRope(mine, cos, sin, first);
    const at::Tensor c = cos.narrow(0, first, tokens).unsqueeze(1);
    const at::Tensor s = sin.narrow(0, first, tokens).unsqueeze(1);
    const at::Tensor expected = at::cat(
        {Rope(plain.narrow(-1, 0, turned), c, s), plain.narrow(-1, turned, d - turned)}, -1);
    ExpectClose(out, expected, "out");
    (out * weights).sum().backward();
    (expected * weights).sum().backward();
    ExpectClose(mine.grad(), plain.grad(), "gradient");
  }
}

TEST_F(FusedOpsTest, GatesAsLibTorchDoes) {
  const at::Tensor g = Random({301, 1536}, 3), u = Random({301, 1536}), w = Random({301, 1536});
  const at::Tensor all = at::rand({5, 1536}).to(at::kCUDA);
  const at::Tensor chosen = at::randint(5, {301}, at::kLong).to(at::kCUDA);
  for (const bool routed : {false, true}) {
    const at::Tensor gains = routed ? all : at::Tensor(), routes = routed ? chosen : at::Tensor();
    const at::Tensor gate = Leaf(g, at::kBFloat16), up = Leaf(u, at::kBFloat16);
    const at::Tensor gate_f = Leaf(g, at::kFloat), up_f = Leaf(u, at::kFloat);
    const at::Tensor out = FusedGated(gate, up, gains, routes);
    at::Tensor expected = at::silu(gate_f) * up_f;
    if (routed) expected = expected * all.index_select(0, chosen);
    ExpectClose(out, expected, "out");
    (out * w).sum().backward();
    (expected * w).sum().backward();
    ExpectClose(gate.grad(), gate_f.grad(), "gate's gradient");
    ExpectClose(up.grad(), up_f.grad(), "up's gradient");
  }
}

TEST_F(FusedOpsTest, StoresAsLibTorchDoes) {
  const at::Tensor dense = at::randn({33, 576}, at::kFloat);
  const CompressedDeltas coded = CompressDeltas({{"w", 0.1 * at::randn({33, 576})}}, 33 * 576 / 4);
  ASSERT_GT(coded.deltas.at("w").coded.bits, 0);
  const at::Tensor first = dense + 0.2 * at::randn({33, 576});
  const at::Tensor plain = Leaf(first, at::kFloat), on_card = Leaf(first.to(at::kCUDA), at::kFloat);
  const CodeGrid grid({{"w", dense}}, coded.deltas);
  const CodeGrid card_grid({{"w", dense.to(at::kCUDA)}}, coded.deltas);
  ASSERT_TRUE(TakesFusedStored(on_card));
  const at::Tensor expected = grid.Stored("w", plain), out = card_grid.Stored("w", on_card);
  // A sum next to a border between two levels may fall to either side.
  const at::Tensor off =
      (out.to(at::kCPU, at::kFloat) - expected).abs().gt(0.01 * expected.abs() + 0.01);
  EXPECT_LE(off.sum().item<int64_t>(), 4);
  EXPECT_TRUE(at::allclose(on_card.detach().to(at::kCPU), plain.detach(), 1e-5, 1e-6));
  const at::Tensor weights = at::randn({33, 576});
  (out.to(at::kFloat) * weights.to(at::kCUDA)).sum().backward();
  (expected * weights).sum().backward();
  ExpectClose(on_card.grad().to(at::kCPU), plain.grad(), "gradient");
}

TEST_F(FusedOpsTest, LosesAsLibTorchDoes) {
  const int64_t rows = 77, vocab = 49152;
  const at::Tensor z = Random({rows, vocab}, 4), y = Random({rows, vocab}, 4);
  const at::Tensor next = at::randint(vocab, {rows}, at::kLong).to(at::kCUDA);
  const at::Tensor by_divergence = at::rand({rows}).to(at::kCUDA);
  const at::Tensor by_nll = at::rand({rows}).to(at::kCUDA);
  for (const bool has_parent : {true, false}) {
    const at::Tensor mine = Leaf(z, at::kBFloat16), plain = Leaf(z, at::kFloat);
    const RowLosses losses = FusedLosses(mine, has_parent ? y : at::Tensor(), next);
    const at::Tensor log_q = plain.log_softmax(-1);
    const at::Tensor nll = -log_q.gather(1, next.unsqueeze(1)).squeeze(1);
    at::Tensor loss = (losses.nll * by_nll).sum(), expected = (nll * by_nll).sum();
    EXPECT_TRUE(at::allclose(losses.nll, nll, 1e-4, 1e-4));
    ASSERT_EQ(losses.divergence.defined(), has_parent);
    if (has_parent) {
      const at::Tensor log_p = y.to(at::kFloat).log_softmax(-1);
      const at::Tensor divergence = (log_p.exp() * (log_p - log_q)).sum(-1);
      EXPECT_TRUE(at::allclose(losses.divergence, divergence, 1e-3, 1e-3));
      loss = loss + (losses.divergence * by_divergence).sum();
      expected = expected + (divergence * by_divergence).sum();
    }
    loss.backward();
    expected.backward();
    ExpectClose(mine.grad(), plain.grad(), "gradient");
  }
}

}  // namespace
}  // namespace pregate

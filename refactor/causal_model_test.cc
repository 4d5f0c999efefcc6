#include "refactor/causal_model.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/offline/offline_model.h"
#include "common/base/clock.h"
#include "common/device/cpu/cpu_device.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

constexpr int kWindow = 24;

at::Tensor Ids(const std::vector<TokenId>& tokens) {
  return at::from_blob(const_cast<TokenId*>(tokens.data()),
                       {static_cast<int64_t>(tokens.size()) / kWindow, kWindow}, at::kInt)
      .to(at::kLong);
}

std::vector<float> Logits(const CausalModel& model, const std::vector<TokenId>& tokens,
                          const at::Tensor& routes) {
  const at::NoGradGuard no_grad;
  const at::Tensor logits = model.Logits(model.Hidden(Ids(tokens), routes)).contiguous();
  return {logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel()};
}

// Of one window, by the layers that serve.
std::vector<float> ServedLogits(const Checkpoint& checkpoint, absl::Span<const TokenId> tokens,
                                std::optional<ExpertId> expert) {
  const auto device = MakeCpuDevice({.threads = 1});
  ManualClock clock;
  auto model = OfflineModel::Load(checkpoint, device.get(), &clock,
                                  {.context_tokens = kWindow, .expert = expert}, nullptr);
  EXPECT_TRUE(model.ok()) << model.status();
  auto logits = (*model)->Logits(tokens);
  EXPECT_TRUE(logits.ok()) << logits.status();
  return logits->logits;
}

double WorstError(absl::Span<const float> a, absl::Span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(a[i] - b[i], 2);
    size += std::pow(b[i], 2);
  }
  return std::sqrt(difference / size);
}

struct Family {
  const char* name;
  ModelSpec spec;
};

std::vector<Family> Families() {
  ModelSpec llama = TinySpec(0), mistral = llama, qwen2 = llama, qwen3 = llama, smollm3 = llama,
            phi3 = llama, granite = llama;
  llama.tie_embeddings = false;
  mistral.windows = {5, 5};
  qwen2.qkv_bias = true;
  qwen2.windows = {0, 7};
  qwen3.qk_norm = true;
  qwen3.head_dim = 16;  // wider than hidden / heads
  smollm3.no_rope = {false, true};
  phi3.rotary_dim = 4;
  phi3.rope_scaling = {.kind = RopeScalingKind::kLongRope,
                       .attention_factor = 1.2f,
                       .original_max_position = 64,
                       .factors = {1.1f, 1.5f},
                       .long_factors = {2, 3}};
  granite.embedding_multiplier = 12;
  granite.residual_multiplier = 0.22f;
  granite.attention_multiplier = 0.0625f;
  granite.logits_divisor = 8;
  ModelSpec llama3 = TinySpec(0);
  llama3.rope_scaling = {
      .kind = RopeScalingKind::kLlama3, .factor = 8, .original_max_position = 16};
  return {{"llama", llama}, {"llama3", llama3},   {"mistral", mistral},
          {"qwen2", qwen2}, {"qwen3", qwen3},     {"smollm3", smollm3},
          {"phi3", phi3},   {"granite", granite}, {"all traits", WithTraits(TinySpec(0))}};
}

TEST(CausalModelTest, HasTheLogitsOfServingInEveryFamily) {
  const std::vector<TokenId> tokens = RandomTokens(2 * kWindow, 131, 3);
  for (const Family& family : Families()) {
    const auto checkpoint = MakeRandomModel(family.spec, 5);
    const auto model = CausalModel::Load(*checkpoint, kWindow, at::kCPU, at::kFloat, at::kFloat);
    ASSERT_TRUE(model.ok()) << model.status();
    const std::vector<float> logits = Logits(*model, tokens, {});
    for (int w = 0; w < 2; ++w) {  // two windows, which must not see each other
      const auto window = absl::MakeConstSpan(tokens).subspan(w * kWindow, kWindow);
      EXPECT_LT(WorstError(absl::MakeConstSpan(logits).subspan(w * kWindow * 131, kWindow * 131),
                           ServedLogits(*checkpoint, window, std::nullopt)),
                1e-5)
          << family.name << ", window " << w;
    }
  }
}

// In pieces of every kind: a prefix, some tokens, one by one.
TEST(CausalModelTest, ACacheGivesTheLogitsOfTheWholeWindowInEveryFamily) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = Ids(RandomTokens(3 * kWindow, 131, 8));
  for (const Family& family : Families()) {
    const auto checkpoint = MakeRandomModel(family.spec, 5);
    const auto model = CausalModel::Load(*checkpoint, kWindow, at::kCPU, at::kFloat, at::kFloat);
    ASSERT_TRUE(model.ok()) << model.status();
    const at::Tensor whole = model->Logits(model->Hidden(ids, {})).view({3, kWindow, -1});
    KeyValueCache cache = model->MakeCache(3);
    int64_t bytes = 0;
    for (const auto* const each : {&cache.keys, &cache.values}) {
      for (const at::Tensor& tensor : *each) bytes += static_cast<int64_t>(tensor.nbytes());
    }
    EXPECT_EQ(bytes, 3 * model->CacheBytes());
    for (const int64_t end : {10, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}) {
      const int64_t begin = cache.tokens;
      const at::Tensor piece = ids.narrow(1, begin, end - begin);
      const at::Tensor logits =
          model->Logits(model->Hidden(piece, {}, nullptr, &cache)).view({3, end - begin, -1});
      const at::Tensor expected = whole.narrow(1, begin, end - begin);
      EXPECT_LT(((logits - expected).norm() / expected.norm()).item<double>(), 1e-5)
          << family.name << ", tokens " << begin << " to " << end;
    }
  }
}

TEST(CausalModelTest, GainsAreTheServedExperts) {
  const ModelSpec spec = TinySpec(2);
  ModelSpec dense_spec = TinySpec(0);
  const auto dense = MakeRandomModel(dense_spec, 7);
  // Expert e of layer l: the first neurons, and from 20 + e * own on its own; its columns doubled.
  auto moe = MakeRandomModel(spec, 7);
  std::vector<at::Tensor> gains;
  for (int l = 0; l < 2; ++l) {
    gains.push_back(at::zeros({2, dense_spec.intermediate}));
    for (auto& [name, values] : moe->tensors) {
      const std::string prefix = absl::StrCat("model.layers.", l, ".mlp.");
      if (name.rfind("router.", 0) == 0) continue;
      if (name.find(".mlp.") == std::string::npos) values = dense->tensors[name];
      if (name.rfind(prefix, 0) != 0) continue;
      const bool shared = name.find(".shared.") != std::string::npos;
      const int e = name.find(".experts.1.") != std::string::npos;
      const int first = shared ? 0 : spec.shared_width[l] + e * 4;
      const int width = shared ? spec.shared_width[l] : spec.own_width[l];
      const std::string matrix = name.substr(name.rfind('.', name.size() - 8) + 1);
      const std::vector<float>& from = dense->tensors[prefix + matrix];
      for (int j = 0; j < width; ++j) {
        for (int i = 0; i < spec.hidden; ++i) {
          if (matrix == "down_proj.weight") {
            values[i * width + j] =
                from[i * dense_spec.intermediate + first + j] * (shared ? 1.f : 2.f);
          } else {
            values[j * spec.hidden + i] = from[(first + j) * spec.hidden + i];
          }
        }
        for (int each = 0; each < 2; ++each) {
          if (shared || each == e) gains[l][each][first + j] = shared ? 1.f : 2.f;
        }
      }
    }
  }
  auto model = CausalModel::Load(*dense, kWindow, at::kCPU, at::kFloat, at::kFloat);
  ASSERT_TRUE(model.ok()) << model.status();
  model->SetGains(gains);
  const std::vector<TokenId> tokens = RandomTokens(kWindow, 131, 4);
  for (int e = 0; e < 2; ++e) {
    EXPECT_LT(WorstError(Logits(*model, tokens, at::full({1, kWindow}, e, at::kLong)),
                         ServedLogits(*moe, tokens, e)),
              1e-5)
        << "expert " << e;
  }
}

// Two experts of random gains, and a router in each of two layers.
struct Gated {
  const at::ScalarType compute;
  std::unique_ptr<InMemoryCheckpoint> dense = MakeRandomModel(TinySpec(0), 11);
  CausalModel model = *CausalModel::Load(*dense, kWindow, at::kCPU, compute, compute);
  std::vector<at::Tensor> gains, routers;
  const std::vector<TokenId> tokens = RandomTokens(kWindow, 131, 12);

  explicit Gated(at::ScalarType type) : compute(type) {
    at::manual_seed(13);
    for (int l = 0; l < 2; ++l) {
      gains.push_back(at::rand({2, dense->spec().intermediate}));
      routers.push_back(at::randn({2, dense->spec().hidden}) * 0.3);
    }
    model.SetGains(gains);
  }

  // A model without routers whose token t runs, in layer l, the gains choices[l][t] of `from[l]`.
  at::Tensor LogitsOfChoices(const std::vector<at::Tensor>& from,
                             const std::vector<at::Tensor>& choices) const {
    CausalModel plain = *CausalModel::Load(*dense, kWindow, at::kCPU, compute, compute);
    plain.SetGains({from[0].index_select(0, choices[0]), from[1].index_select(0, choices[1])});
    const at::Tensor each = at::arange(kWindow, at::kLong).view({1, kWindow});  // a row of its own
    return plain.Logits(plain.Hidden(Ids(tokens), each));
  }

  double Loss(const at::Tensor& logits) const {
    const at::Tensor next = Ids(tokens).roll(-1, 1).view({-1, 1});
    return -logits.to(at::kDouble).log_softmax(-1).gather(1, next).sum().item<double>();
  }
};

TEST(CausalModelTest, LayersRunTheExpertThatTheirRouterChooses) {
  for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
    Gated gated(compute);
    gated.model.SetLayerRouters(gated.routers);
    std::vector<at::Tensor> choices;
    const at::NoGradGuard no_grad;
    const at::Tensor hidden =
        gated.model.Hidden(Ids(gated.tokens), {}, [&](int layer, const at::Tensor& input) {
          choices.push_back(at::matmul(input, gated.routers[layer].t()).argmax(-1));
        });
    ASSERT_EQ(choices.size(), 2u);
    EXPECT_FALSE(choices[0].equal(choices[1]));
    const at::Tensor plain = gated.LogitsOfChoices(gated.gains, choices);
    EXPECT_TRUE(at::allclose(gated.model.Logits(hidden), plain, 1e-5, 1e-5)) << compute;
  }
}

// The gate's gradient by differences: dL/dg of each token and expert from two models whose gains are
// gains_chosen +- e gains_expert there, then through softmax by hand. In the last layer, behind
// which no other gate is.
TEST(CausalModelTest, RoutersOfLayersLearnByTheGradientOfTheMixture) {
  Gated gated(at::kFloat);
  gated.routers[1].requires_grad_();
  gated.model.SetLayerRouters(gated.routers);
  std::vector<at::Tensor> choices, inputs;
  const at::Tensor logits = gated.model.Logits(
      gated.model.Hidden(Ids(gated.tokens), {}, [&](int layer, const at::Tensor& input) {
        inputs.push_back(input.detach());
        choices.push_back(at::matmul(input, gated.routers[layer].t()).detach().argmax(-1));
      }));
  const at::Tensor next = Ids(gated.tokens).roll(-1, 1).view({-1, 1});
  (-logits.log_softmax(-1).gather(1, next).sum()).backward();

  const at::NoGradGuard no_grad;
  constexpr double kStep = 0.05;
  at::Tensor by_gate = at::zeros({kWindow, 2}, at::kFloat);
  for (int64_t t = 0; t < kWindow; ++t) {
    for (int64_t k = 0; k < 2; ++k) {
      double loss[2];
      for (const int side : {0, 1}) {
        const at::Tensor changed = gated.gains[1][choices[1][t].item<int64_t>()] +
                                   gated.gains[1][k] * (side == 0 ? -kStep : kStep);
        std::vector<at::Tensor> chosen = {choices[0], choices[1].clone()};
        chosen[1][t] = 2;
        loss[side] = gated.Loss(gated.LogitsOfChoices(
            {gated.gains[0], at::cat({gated.gains[1], changed.unsqueeze(0)})}, chosen));
      }
      by_gate[t][k] = (loss[1] - loss[0]) / (2 * kStep);
    }
  }
  const at::Tensor p = at::matmul(inputs[1], gated.routers[1].t()).softmax(-1);
  const at::Tensor by_logit = p * (by_gate - (by_gate * p).sum(-1, /*keepdim=*/true));
  const at::Tensor expected = at::matmul(by_logit.t(), inputs[1]);
  const at::Tensor error = (gated.routers[1].grad() - expected).norm() / expected.norm();
  EXPECT_GT(expected.norm().item<float>(), 1e-3);
  EXPECT_LT(error.item<float>(), 0.02);
}

TEST(CausalModelTest, RefusesWhatItCannotRun) {
  EXPECT_FALSE(
      CausalModel::Load(*MakeRandomModel(TinySpec(2), 1), 8, at::kCPU, at::kFloat, at::kFloat)
          .ok());
  const auto long_window =
      CausalModel::Load(*MakeRandomModel(TinySpec(0), 1), 129, at::kCPU, at::kFloat, at::kFloat);
  EXPECT_NE(long_window.status().message().find("129"), std::string::npos);
}

}  // namespace
}  // namespace pregate

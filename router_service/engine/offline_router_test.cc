#include "router_service/engine/offline_router.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/router/testing/double_router.h"
#include "common/router/testing/random_router.h"
#include "common/router/testing/test_devices.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

// Relative to logits of unit size at least: the one logit of one expert may be near 0 by chance.
double RelativeError(const std::vector<float>& got, const std::vector<double>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / std::max(norm, static_cast<double>(want.size())));
}

struct Case {
  const char* name;
  RouterSpec router;
  int num_experts;
};
const Case kCases[] = {
    {"PaperShapeSmall", {.num_layers = 1, .num_heads = 4, .hidden = 32, .intermediate = 32}, 7},
    {"TwoLayersOddSizesSilu",
     {.num_layers = 2,
      .num_heads = 3,
      .hidden = 42,
      .intermediate = 37,
      .rms_eps = 1e-5f,
      .rope_theta = 500,
      .normalizer = 3.7f},
     5},
    {"ThreeLayersRelu",
     {.num_layers = 3,
      .num_heads = 1,
      .hidden = 10,
      .intermediate = 65,
      .normalizer = 2,
      .activation = RouterActivation::kRelu},
     2},
    {"OneExpert", {.num_layers = 1, .num_heads = 2, .hidden = 4, .intermediate = 1}, 1},
};

class OfflineRouterNumbersTest : public testing::TestWithParam<std::tuple<const char*, Case>> {};

TEST_P(OfflineRouterNumbersTest, AgreesWithPlainDoubleArithmetic) {
  const auto& [device_name, c] = GetParam();
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto checkpoint = MakeRandomRouter(RouterOnlySpec(131, c.num_experts, c.router), seed);
  const auto device = MakeTestDevice(device_name);
  auto router = OfflineRouter::Create(*checkpoint, *device, 320);
  ASSERT_TRUE(router.ok()) << router.status();
  for (int length : {1, 33, 300}) {
    std::vector<TokenId> tokens(length);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 131);
    const auto routed = (*router)->RouteAll(tokens);
    ASSERT_TRUE(routed.ok()) << routed.status();
    const std::vector<double> want = DoubleRouterLogits(*checkpoint, tokens);
    ASSERT_EQ(routed->logits.size(), want.size());
    EXPECT_LE(RelativeError(routed->logits, want), 1e-5);
    for (int t = 0; t < length; ++t) {
      const auto row = routed->logits.begin() + t * c.num_experts;
      EXPECT_EQ(routed->routes[t], std::max_element(row, row + c.num_experts) - row);
    }
    if (length == 300) {  // the input matters
      EXPECT_NE(std::vector(want.begin(), want.begin() + c.num_experts),
                std::vector(want.end() - c.num_experts, want.end()));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, OfflineRouterNumbersTest,
                         testing::Combine(PREGATE_ALL_TEST_DEVICES, testing::ValuesIn(kCases)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::get<1>(info.param).name;
                         });

TEST(OfflineRouterTest, TiesGoToTheLowestExpert) {
  const auto checkpoint = MakeRandomRouter(
      RouterOnlySpec(10, 4, {.num_layers = 1, .num_heads = 2, .hidden = 8, .intermediate = 8}), 3);
  std::fill(checkpoint->tensors["router.proj_out.weight"].begin(),
            checkpoint->tensors["router.proj_out.weight"].end(), 0.0f);
  checkpoint->tensors["router.proj_out.bias"] = {0.5f, 2.0f, 1.0f, 2.0f};
  const auto device = MakeTestDevice("cpu");
  const auto routed = (*OfflineRouter::Create(*checkpoint, *device, 16))->RouteAll({1, 2, 3});
  ASSERT_TRUE(routed.ok());
  EXPECT_THAT(routed->routes, testing::ElementsAre(1, 1, 1));
}

TEST(OfflineRouterTest, NamesTheTokenAtFault) {
  const auto checkpoint = MakeRandomRouter(
      RouterOnlySpec(10, 4, {.num_layers = 1, .num_heads = 2, .hidden = 8, .intermediate = 8}), 3);
  const auto device = MakeTestDevice("cpu");
  auto router = *OfflineRouter::Create(*checkpoint, *device, 4);
  EXPECT_EQ(router->RouteAll({1, 10}).status().message(),
            "tokens[1]: 10 is not below the vocabulary of 10");
  EXPECT_EQ(router->RouteAll({1, 2, 3, 4, 5}).status().message(),
            "tokens: has 5, the context holds 4");
  EXPECT_THAT(router->RouteAll({})->routes, testing::IsEmpty());
}

}  // namespace
}  // namespace pregate

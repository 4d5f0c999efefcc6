// One contract, two forms: the pure exchange plan and the grouping that each device makes for
// itself (docs/CONTRACTS.md, "Exchange plan").
#include <gtest/gtest.h>

#include <random>

#include "common/device/reference/reference_device.h"
#include "expert_service/core/exchange_plan.h"
#include "expert_service/testing/engine_device.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

class ExchangeContractTest : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Device> device_ =
      GetParam() == std::string("tested") ? MakeEngineTestDevice(2) : MakeReferenceDevice();
};

TEST_P(ExchangeContractTest, DevicesGroupTokensAsTheLocalPlanDoes) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  constexpr int kTokensMax = 300, kExpertsMax = 16;
  DeviceBuffer num = *device_->Allocate(sizeof(int32_t));
  DeviceBuffer routes = *device_->Allocate(kTokensMax * sizeof(int32_t));
  DeviceBuffer offsets = *device_->Allocate((kExpertsMax + 1) * sizeof(int32_t));
  DeviceBuffer order = *device_->Allocate(kTokensMax * sizeof(int32_t));
  for (int round = 0; round < 50; ++round) {
    const int num_experts = 1 + random() % kExpertsMax;
    const int32_t count = random() % (kTokensMax + 1);
    const std::vector<ExpertId> host_routes = RandomTokens(count, num_experts, random());
    Placement placement;
    placement.ranks.assign(num_experts, {0});
    const auto plan = MakeExchangePlan(std::vector<int32_t>(count, 0), host_routes, placement, 1);
    ASSERT_TRUE(plan.ok()) << plan.status();

    device_->Upload(num.as<void>(), &count, sizeof(count));
    device_->Upload(routes.as<void>(), host_routes.data(), count * sizeof(int32_t));
    device_->BuildGroups({num.as<int32_t>(), kTokensMax}, routes.as<int32_t>(),
                         {offsets.as<int32_t>(), order.as<int32_t>(), num_experts});
    std::vector<int32_t> device_offsets(num_experts + 1), device_order(count);
    device_->Download(device_offsets.data(), offsets.as<void>(),
                      device_offsets.size() * sizeof(int32_t));
    device_->Download(device_order.data(), order.as<void>(), count * sizeof(int32_t));
    ASSERT_TRUE(device_->Synchronize().ok());
    EXPECT_EQ(device_offsets, plan->group_offsets[0]);
    EXPECT_EQ(device_order, plan->order[0]);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, ExchangeContractTest, testing::Values("reference", "tested"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace pregate

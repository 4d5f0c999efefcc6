#include "expert_service/engine/slot_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/device/cpu/cpu_device.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

class SlotChoiceTest : public testing::Test {
 protected:
  int64_t TotalWith(int32_t slots) const {
    ExecutorOptions options = options_;
    options.expert_slots = slots;
    return PlanMemory(spec_, *device_, options)->total_bytes();
  }

  std::unique_ptr<Device> device_ = MakeCpuDevice({.threads = 1});
  ModelSpec spec_ = TinySpec(7);
  ExecutorOptions options_{.kv_blocks = 4};
};

// What is chosen fits, one more would not, and more memory never means fewer.
TEST_F(SlotChoiceTest, TheMostThatFits) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int32_t>(random() % n); };
  for (int round = 0; round < 100; ++round) {
    spec_ = TinySpec(1 + below(9));
    for (int32_t& width : spec_.own_width) width = below(4) == 0 ? 0 : 8 * (1 + below(6));
    spec_.own_width[0] = 16;
    options_.kv_blocks = 1 + below(20);
    options_.step_tokens = 1 + below(64);
    options_.types = below(2) == 0 ? kBF16Types : kF32Types;
    int32_t before = -1;  // of the budgets so far; spec_.num_experts: all stay
    const int64_t least = TotalWith(1), all = TotalWith(0);
    for (int64_t budget = least - 1; budget <= all + 1;
         budget += 1 + below(1 + (all - least) / 9)) {
      const auto slots = FittingExpertSlots(spec_, *device_, options_, budget);
      if (budget < std::min(least, all)) {
        EXPECT_EQ(slots.status().code(), absl::StatusCode::kResourceExhausted) << slots.status();
        continue;
      }
      ASSERT_TRUE(slots.ok()) << slots.status();
      const int32_t now = *slots == 0 ? spec_.num_experts : *slots;
      EXPECT_GE(now, before);
      before = now;
      EXPECT_LE(TotalWith(*slots), budget);
      if (*slots == 0) continue;
      EXPECT_LT(*slots, spec_.num_experts);
      EXPECT_GT(all, budget) << "all would have fit";
      EXPECT_GT(TotalWith(*slots + 1), budget);
    }
  }
}

TEST_F(SlotChoiceTest, SaysWhatTheLeastTakes) {
  const auto slots = FittingExpertSlots(spec_, *device_, options_, 1 << 10);
  EXPECT_THAT(std::string(slots.status().message()), HasSubstr("the units of one expert"));
  spec_ = TinySpec(0);
  const auto dense = FittingExpertSlots(spec_, *device_, options_, 1 << 10);
  EXPECT_EQ(dense.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*FittingExpertSlots(spec_, *device_, options_, TotalWith(0)), 0);
}

TEST_F(SlotChoiceTest, OnTheHostSlotsSaveNothingUnlessBytesAreGiven) {
  const auto free = ChooseExpertSlots(spec_, *device_, options_, 0, 1);
  ASSERT_TRUE(free.ok()) << free.status();
  EXPECT_EQ(free->expert_slots, 0);
  const auto given = ChooseExpertSlots(spec_, *device_, options_, TotalWith(3), 1);
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->expert_slots, 3);
  EXPECT_EQ(given->budget.bytes, TotalWith(3));
  EXPECT_EQ(given->budget.reserve_bytes, 0);
  EXPECT_EQ(given->reason, "3 of 7 fit");
}

TEST_F(SlotChoiceTest, SharersDivideWhatIsFree) {
  const DeviceBudget alone = *BudgetOf(*device_, 0, 1);
  EXPECT_EQ(alone.bytes, std::max<int64_t>(alone.free_bytes - alone.reserve_bytes, 0));
  const DeviceBudget third = *BudgetOf(*device_, 0, 3);
  EXPECT_EQ(third.bytes, std::max<int64_t>(third.free_bytes - third.reserve_bytes, 0) / 3);
}

TEST(ExpectedTokensPerSecondTest, AStepAndTheWaitsForAbsentExperts) {
  const DecodeCost slow_link{.step = absl::Milliseconds(2), .unit_load = absl::Milliseconds(1)};
  EXPECT_DOUBLE_EQ(ExpectedTokensPerSecond(slow_link, 32, 7, 0, 0.71), 500) << "nothing moves";
  EXPECT_DOUBLE_EQ(ExpectedTokensPerSecond(slow_link, 32, 7, 1, 1), 500) << "nobody moves";
  // Every other token moves, to an absent one in four of six cases: a third waits 32 ms.
  EXPECT_NEAR(ExpectedTokensPerSecond(slow_link, 32, 7, 3, 0.5), 1 / (2e-3 * 2 / 3 + 32e-3 / 3),
              1e-9);
  const DecodeCost fast_link{.step = absl::Milliseconds(40), .unit_load = absl::Milliseconds(1)};
  EXPECT_DOUBLE_EQ(ExpectedTokensPerSecond(fast_link, 32, 7, 1, 0), 25) << "hidden by the step";
}

}  // namespace
}  // namespace pregate

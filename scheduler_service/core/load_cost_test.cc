#include "scheduler_service/core/load_cost.h"

#include <gtest/gtest.h>

#include "scheduler_service/core/random_source.h"
#include "scheduler_service/core/route_habits.h"

namespace pregate::scheduler {
namespace {

TEST(LoadCostTest, KnowsNothingUntilBothWereSeen) {
  LoadCost cost;
  EXPECT_FALSE(cost.IsHidden(0));
  cost.Observe(3000, 0, false);
  EXPECT_FALSE(cost.IsHidden(1));
  cost.Observe(78'000, 32, true);
  EXPECT_TRUE(cost.IsHidden(1));
  EXPECT_FALSE(cost.IsHidden(2));
}

TEST(LoadCostTest, FindsTheCostsAmongStepsThatWaitAndStepsThatDoNot) {
  SplitMix64 random(5);
  LoadCost cost;
  for (int i = 0; i < 2000; ++i) {
    const int32_t units = random.Next() % 3 == 0 ? 32 + random.Next() % 100 : random.Next() % 3;
    const bool prefill = random.Next() % 10 == 0;
    const double compute = 3000 + (prefill ? 20000 : 0) + random.Next() % 500;
    cost.Observe(units < 8 ? compute : std::max(compute, units * 2500.0), units, prefill);
  }
  EXPECT_NEAR(cost.unit_us(), 2500, 50);
  EXPECT_NEAR(cost.step_us(), 3200, 300);
}

TEST(LoadCostTest, ForgetsWhatIsNoLongerTrue) {
  LoadCost cost;
  cost.Observe(1000, 10, false);
  for (int i = 0; i < 300; ++i) cost.Observe(5000, 10, false);
  EXPECT_NEAR(cost.step_us(), 5000, 1);
  EXPECT_NEAR(cost.unit_us(), 500, 1);
}

TEST(RouteHabitsTest, LearnsWhereTokensGo) {
  RouteHabits habits;
  habits.Reset(3);
  EXPECT_NEAR(habits.Chance(0, 0), 0.7, 1e-9);
  EXPECT_NEAR(habits.Chance(0, 1), 0.15, 1e-9);
  for (int i = 0; i < 30000; ++i) habits.Observe(0, i % 10 == 0 ? 2 : 0);
  habits.Observe(0, kNoRoute);
  EXPECT_NEAR(habits.Chance(0, 0), 0.9, 0.01);
  EXPECT_NEAR(habits.Chance(0, 2), 0.1, 0.01);
  EXPECT_NEAR(habits.Chance(1, 1), 0.7, 1e-9) << "nothing was seen of it";
  double sum = 0;
  for (ExpertId e = 0; e < 3; ++e) sum += habits.Chance(0, e);
  EXPECT_NEAR(sum, 1, 1e-9);
}

}  // namespace
}  // namespace pregate::scheduler

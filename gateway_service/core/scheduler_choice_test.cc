#include "gateway_service/core/scheduler_choice.h"

#include "gtest/gtest.h"

namespace pregate::gateway {
namespace {

TEST(SchedulerChoiceTest, TheReadyOneWithTheFewest) {
  EXPECT_EQ(ChooseScheduler({}, "", 0), -1);
  EXPECT_EQ(ChooseScheduler({{.ready = false}}, "", 0), -1);
  EXPECT_EQ(
      ChooseScheduler(
          {{.ready = true, .outstanding = 3}, {.ready = true, .outstanding = 2}, {.ready = false}},
          "", 0),
      1);
  EXPECT_EQ(ChooseScheduler({{.ready = true}, {.ready = true, .tried = true}}, "", 1), 0);
}

TEST(SchedulerChoiceTest, EqualsTakeTurns) {
  int chosen[3] = {};
  for (uint64_t turn = 0; turn < 30; ++turn) {
    ++chosen[ChooseScheduler({{.ready = true}, {.ready = true}, {.ready = true}}, "", turn)];
  }
  EXPECT_EQ(chosen[0], 10);
  EXPECT_EQ(chosen[1], 10);
}

TEST(SchedulerChoiceTest, ByModelWhereItIsKnown) {
  const std::vector<SchedulerLoad> two = {{.ready = true, .model = "a"},
                                          {.ready = true, .model = "b", .outstanding = 9}};
  EXPECT_EQ(ChooseScheduler(two, "b", 0), 1);
  EXPECT_EQ(ChooseScheduler(two, "c", 0), 0) << "who then says that it does not serve it";
  EXPECT_EQ(
      ChooseScheduler({{.ready = true, .model = "a"}, {.ready = false, .model = "b"}}, "b", 0), -1);
}

}  // namespace
}  // namespace pregate::gateway

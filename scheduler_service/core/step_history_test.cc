#include "scheduler_service/core/step_history.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int64_t> Numbers(const StepHistory& history) {
  std::vector<int64_t> numbers;
  for (const StepRecord& step : history.steps()) numbers.push_back(step.number);
  return numbers;
}

TEST(StepHistoryTest, KeepsTheLastOnesInOrder) {
  StepHistory history(3);
  EXPECT_THAT(Numbers(history), IsEmpty());
  history.Add({});
  history.Add({});
  EXPECT_THAT(Numbers(history), ElementsAre(1, 2));
  for (int32_t rows = 3; rows <= 7; ++rows) history.Add({.decode_rows = rows});
  EXPECT_THAT(Numbers(history), ElementsAre(5, 6, 7));
  EXPECT_EQ(history.steps().front().decode_rows, 5);
}

TEST(StepHistoryTest, NumbersGoOnWhateverTheRecordSays) {
  StepHistory history(1);
  history.Add({.number = 99});
  history.Add({.number = 1});
  EXPECT_THAT(Numbers(history), ElementsAre(2));
}

}  // namespace
}  // namespace pregate::scheduler

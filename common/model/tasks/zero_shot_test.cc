#include "common/model/tasks/zero_shot.h"

#include <gtest/gtest.h>

namespace pregate {
namespace {

TEST(ZeroShotTest, TheLikeliestChoiceIsTheAnswer) {
  const TaskItem item{{{"q", " a long answer"}, {"q", " no"}, {"q", " so"}}, 0};
  Accuracy accuracy;
  Judge(item, {{.logprob = -9}, {.logprob = -4}, {.logprob = -5}}, &accuracy);
  EXPECT_EQ(accuracy.right, 0);       // -4 of " no"
  EXPECT_EQ(accuracy.right_norm, 1);  // -9 of 14 bytes is more than -4 of 3
  Judge(item, {{.logprob = -1}, {.logprob = -4}, {.logprob = -5}}, &accuracy);
  EXPECT_EQ(accuracy.acc(), 0.5);
  EXPECT_EQ(accuracy.acc_norm(), 1);
  EXPECT_NEAR(accuracy.chance(), 1.0 / 3, 1e-12);
}

TEST(ZeroShotTest, OfOneChoiceEveryTokenIsTheArgmax) {
  const TaskItem item{{{"q", " word"}}, 0};
  Accuracy accuracy;
  Judge(item, {{.logprob = -0.1, .greedy = false}}, &accuracy);
  Judge(item, {{.logprob = -2, .greedy = true}}, &accuracy);
  EXPECT_EQ(accuracy.items, 2);
  EXPECT_EQ(accuracy.right, 1);
  EXPECT_EQ(accuracy.right_norm, 1);
  EXPECT_EQ(accuracy.chance(), 0);
}

}  // namespace
}  // namespace pregate

#include "refactor/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ProgressTest : public testing::Test {
 protected:
  std::string Take() {
    const std::string text = out_.str();
    out_.str("");
    return text;
  }
  std::ostringstream out_;
  ManualClock clock_;
  StageProgress progress_{out_, clock_, "tune"};
};

TEST_F(ProgressTest, TimeLeftFollowsTheMeasuredSpeed) {
  progress_.Begin(0);
  EXPECT_THAT(Take(), AllOf(HasSubstr("tune   0%"), Not(HasSubstr("left"))));
  clock_.Advance(absl::Seconds(60));
  progress_.Update(0.75, "loss 2.31");
  EXPECT_THAT(Take(), HasSubstr("tune  75%, about 0:20 left, loss 2.31"));
}

TEST_F(ProgressTest, WhatAnEarlierProcessDidSaysNothingOfTheSpeed) {
  progress_.Begin(0.5);
  EXPECT_THAT(Take(), AllOf(HasSubstr("50%"), Not(HasSubstr("left"))));
  clock_.Advance(absl::Seconds(60));
  progress_.Update(0.75);
  EXPECT_THAT(Take(), HasSubstr("about 1:00 left"));
}

TEST_F(ProgressTest, KeepsQuietBetweenUpdates) {
  progress_.Begin(0);
  Take();
  clock_.Advance(absl::Seconds(4));
  progress_.Update(0.5);
  EXPECT_EQ(Take(), "");
  clock_.Advance(absl::Seconds(1));
  progress_.Update(0.5);
  EXPECT_THAT(Take(), HasSubstr("50%"));
}

}  // namespace
}  // namespace pregate

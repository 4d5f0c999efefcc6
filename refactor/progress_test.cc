#include "refactor/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace pregate {
namespace {

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
  StageProgress progress_{out_, clock_, {{"first", 30}, {"second", 10}}};
};

TEST_F(ProgressTest, TimeLeftFollowsTheMeasuredSpeed) {
  progress_.NextStage();
  EXPECT_THAT(Take(), ::testing::AllOf(HasSubstr("1/2 first"), Not(HasSubstr("left"))));
  clock_.Advance(absl::Seconds(60));
  progress_.Update(2.0 / 3);  // 20 of 40 units in a minute
  EXPECT_THAT(Take(), ::testing::AllOf(HasSubstr(" 67%"), HasSubstr("about 1:00 left")));
  progress_.NextStage();
  EXPECT_THAT(Take(), ::testing::AllOf(HasSubstr("2/2 second"), HasSubstr("about 0:20 left")));
}

TEST_F(ProgressTest, KeepsQuietBetweenUpdates) {
  progress_.NextStage();
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

#include "expert_service/engine/traced_sequences.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::IsEmpty;

constexpr int32_t kRank = 1;

absl::Time At(int64_t second) { return absl::FromUnixSeconds(second); }

class TracedSequencesTest : public ::testing::Test {
 protected:
  void Run(const StepPlan& plan, int64_t begin, int64_t end) {
    traced_.OnPlan(plan, At(begin));
    traced_.OnStep(plan, At(end));
  }
  static SequenceAdd Add(int32_t slot, SeqId id, std::string traceparent, int32_t home = kRank) {
    return {
        .seq_slot = slot, .seq_id = id, .home_rank = home, .traceparent = std::move(traceparent)};
  }

  std::vector<TracedWork> told_;
  TracedSequences traced_{kRank, [this](const TracedWork& work) { told_.push_back(work); }};
};

TEST_F(TracedSequencesTest, ASequenceLastsFromItsAddToItsLastStep) {
  Run({.add = {Add(3, 7, "a"), Add(4, 8, "b")},
       .rows = {{.seq_slot = 3, .count = 16}, {.seq_slot = 4, .count = 2}}},
      10, 11);
  Run({.rows = {{.seq_slot = 3, .count = 1}}}, 20, 21);
  EXPECT_THAT(told_, IsEmpty());
  // Slot 3 goes to another sequence at once.
  Run({.drop = {3}, .add = {Add(3, 9, "c")}, .rows = {{.seq_slot = 3, .count = 5}}}, 30, 31);
  EXPECT_THAT(told_, ElementsAre(FieldsAre("a", 7, 17, At(10), At(21))));
  Run({.drop = {3, 4}}, 40, 41);
  EXPECT_THAT(told_, ElementsAre(testing::_, FieldsAre("c", 9, 5, At(30), At(31)),
                                 FieldsAre("b", 8, 2, At(10), At(11))));
}

TEST_F(TracedSequencesTest, WhatHasNoTraceOrAnotherHomeIsNotTold) {
  Run({.add = {Add(0, 1, ""), Add(1, 2, "a", 0)}, .rows = {{.seq_slot = 0, .count = 4}}}, 1, 2);
  Run({.drop = {0, 1}}, 3, 4);
  EXPECT_THAT(told_, IsEmpty());
}

TEST_F(TracedSequencesTest, ANewEpochEndsAll) {
  Run({.add = {Add(0, 1, "a")}, .rows = {{.seq_slot = 0, .count = 4}}}, 1, 2);
  traced_.OnEpoch();
  EXPECT_THAT(told_, ElementsAre(FieldsAre("a", 1, 4, At(1), At(2))));
  Run({.drop = {0}}, 3, 4);
  EXPECT_EQ(told_.size(), 1u);
}

}  // namespace
}  // namespace pregate

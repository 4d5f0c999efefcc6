#include "scheduler_service/core/horizon_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "scheduler_service/core/testing/planner_fixture.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int32_t kAgeSteps = 8;

class HorizonPlannerTest : public PlannerFixture {
 protected:
  HorizonPlannerTest() {
    habits_.Reset(5);
    base_.load_cost = &load_cost_;
    base_.habits = &habits_;
  }
  // The next step, in which all that decode want these experts, in the order of age.
  void NextStep(std::initializer_list<ExpertId> routes) {
    size_t i = 0;
    for (const ExpertId e : routes) sequences_[i++]->routes.back() = e;
    for (const auto& s : sequences_) s->idle_since = step_ - 1;
  }
  Proposal Propose() { return HorizonPlanner(kAgeSteps).Propose(View()); }
  // The two that are to be resident.
  std::vector<ExpertId> Chosen(const Proposal& proposal) {
    std::vector<ExpertId> chosen(proposal.experts.begin(), proposal.experts.begin() + 2);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }

  LoadCost load_cost_;
  RouteHabits habits_;
};

TEST_F(HorizonPlannerTest, WhoIsThereRunsAndAnIdleExpertGivesWayMeanwhile) {
  for (int i = 0; i < 3; ++i) Decoding(0);
  NextStep({0, 3, 3});
  const Proposal proposal = Propose();
  EXPECT_THAT(RowsOf(proposal), ElementsAre(1));
  EXPECT_THAT(Chosen(proposal), ElementsAre(0, 3));
}

TEST_F(HorizonPlannerTest, WhatIsUsedStaysUntilAnotherIsWorthTwiceAsMuch) {
  for (int i = 0; i < 8; ++i) Decoding(0);
  NextStep({0, 0, 1, 1, 3, 3, 3, 4});
  EXPECT_THAT(Chosen(Propose()), ElementsAre(0, 1));
  NextStep({0, 0, 1, 3, 3, 3, 3, 3});
  EXPECT_THAT(Chosen(Propose()), ElementsAre(0, 3));
}

TEST_F(HorizonPlannerTest, ALoadThatHasBegunGoesOn) {
  for (int i = 0; i < 5; ++i) Decoding(0);
  NextStep({3, 3, 3, 4, 4});
  SetResident({0});
  SetUnits(4, 8);
  SetUnits(1, 2);
  const Proposal proposal = Propose();
  EXPECT_EQ(proposal.experts[0], 4) << "two that wait for eight tenths, before three for nothing";
}

TEST_F(HorizonPlannerTest, WhereNobodyCanRunTheStepWaitsForTheExpertThatMostWant) {
  for (int i = 0; i < 3; ++i) Decoding(0);
  NextStep({4, 3, 3});
  const Proposal proposal = Propose();
  EXPECT_THAT(RowsOf(proposal), ElementsAre(2, 3));
  EXPECT_EQ(proposal.experts[0], 3);
}

TEST_F(HorizonPlannerTest, ALoadThatADecodeStepHidesIsNotWaitedFor) {
  for (int i = 0; i < 2; ++i) Decoding(0);
  NextStep({0, 3});
  load_cost_.Observe(1000, 10, false);  // 100 µs a unit, 1 ms a step: ten units
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1, 2));
  load_cost_.Observe(500, 0, false);
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1)) << "five units";
  SetUnits(3, 6);
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1, 2));
}

TEST_F(HorizonPlannerTest, NobodyIsPassedOverMoreThanTheBound) {
  for (int i = 0; i < 2; ++i) Decoding(0);
  NextStep({0, 3});
  for (int passed_over = 0; passed_over < kAgeSteps; ++passed_over, ++step_) {
    EXPECT_THAT(RowsOf(Propose()), ElementsAre(1)) << passed_over;
    sequences_[0]->idle_since = step_;
  }
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1, 2));
}

TEST_F(HorizonPlannerTest, APromptThatNamesAllWaitsForDecodesButNotLong) {
  Decoding(0);
  NextStep({0});
  Sequence* prompt = Enqueue("0123401234");
  prompt->idle_since = step_ - 1;
  for (int passed_over = 0; passed_over < kAgeSteps / 4; ++passed_over, ++step_) {
    EXPECT_THAT(RowsOf(Propose()), ElementsAre(1)) << passed_over;
    sequences_[0]->idle_since = step_;
  }
  const Proposal proposal = Propose();
  EXPECT_THAT(RowsOf(proposal), ElementsAre(1, 2));
  EXPECT_EQ(proposal.rows[1].count, 10) << "whole";
}

TEST_F(HorizonPlannerTest, WhereNoDecodeCanRunAPromptGoesAtOnceAndTakesThemAlong) {
  Decoding(0);
  NextStep({3});
  Enqueue("0123401234")->idle_since = step_ - 1;
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1, 2));
}

TEST_F(HorizonPlannerTest, NoStepWaitsForAPromptThatHasNoRoom) {
  batch_.Reset({{0, 1000}}, 1);
  Decoding(0);
  NextStep({0});
  Enqueue("0123401234")->idle_since = 0;
  step_ = 200;
  sequences_[0]->idle_since = 199;
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1));
  sequences_[0]->routes.back() = 3;
  EXPECT_THAT(Chosen(Propose())[1], 3);
}

TEST_F(HorizonPlannerTest, APromptOfWhatIsThereRunsBesideDecodes) {
  Decoding(1);
  NextStep({1});
  Enqueue("000000")->idle_since = step_ - 1;
  EXPECT_THAT(RowsOf(Propose()), ElementsAre(1, 2));
}

TEST_F(HorizonPlannerTest, AmongIdleExpertsTheExpectedOneStays) {
  for (int i = 0; i < 3; ++i) Decoding(0);
  for (int i = 0; i < 1000; ++i) habits_.Observe(0, 1);
  SetResident({1, 2});
  NextStep({0, 0, 0});
  EXPECT_THAT(Chosen(Propose()), ElementsAre(0, 1));
}

TEST_F(HorizonPlannerTest, WhereASequenceHasBeenCountsMoreThanWhereOthersGo) {
  for (int i = 0; i < 3; ++i) Decoding(0);
  for (int i = 0; i < 1000; ++i) habits_.Observe(0, i % 2);
  SetResident({1, 2});
  NextStep({0, 0, 0});
  for (const auto& s : sequences_) s->expert_tokens = {2, 0, 0};
  EXPECT_THAT(Chosen(Propose()), ElementsAre(0, 1));
  for (const auto& s : sequences_) s->expert_tokens = {2, 0, 60};
  EXPECT_THAT(Chosen(Propose()), ElementsAre(0, 2));
}

TEST_F(HorizonPlannerTest, WhereAllFitItIsFcfsAndHasNoOpinionOnResidency) {
  Decoding(3);
  PlannerView view = View();
  view.expert_slots = 0;
  const Proposal proposal = HorizonPlanner(kAgeSteps).Propose(view);
  EXPECT_THAT(RowsOf(proposal), ElementsAre(1));
  EXPECT_THAT(proposal.experts, IsEmpty());
}

}  // namespace
}  // namespace pregate::scheduler

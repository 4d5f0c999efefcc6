#include "scheduler_service/core/horizon_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "scheduler_service/core/batch.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int32_t kLayers = 10;
constexpr int32_t kAgeSteps = 8;

// Five experts, two of which fit. "0001" is a prompt of four tokens with these routes.
class HorizonPlannerTest : public testing::Test {
 protected:
  HorizonPlannerTest() {
    batch_.Reset({{0, 1000}}, 16);
    habits_.Reset(5);
    SetResident({0, 1});
  }
  void SetResident(std::initializer_list<ExpertId> resident) {
    experts_.assign(5, {{0}, 0, false, kLayers});
    for (ExpertId e : resident) SetUnits(e, kLayers);
  }
  void SetUnits(ExpertId e, int32_t units) {
    experts_[e] = {{0}, units, units == kLayers, kLayers - units};
  }
  Sequence* Enqueue(const std::string& routes) {
    auto s = std::make_unique<Sequence>();
    s->id = sequences_.size() + 1;
    s->prompt_len = static_cast<int32_t>(routes.size());
    s->max_len = s->prompt_len + 100;
    for (char c : routes) s->Append(9, c - '0');
    batch_.Enqueue(s.get());
    sequences_.push_back(std::move(s));
    return sequences_.back().get();
  }
  // A sequence that has run and whose next token goes to `route`.
  Sequence* Decoding(ExpertId route) {
    Sequence* s = Enqueue("0");
    batch_.Commit(FcfsPlanner().Propose(View()), 1, step_++);
    for (const auto& each : sequences_) {
      if (each->samples_in_flight > 0) each->Append(9, route);
      each->samples_in_flight = 0;
    }
    return s;
  }
  // The next step, in which all that decode want these experts, in the order of age.
  void NextStep(std::initializer_list<ExpertId> routes) {
    size_t i = 0;
    for (const ExpertId e : routes) sequences_[i++]->routes.back() = e;
    for (const auto& s : sequences_) s->idle_since = step_ - 1;
  }
  PlannerView View() {
    PlannerView base;
    base.step_id = step_;
    base.step_tokens = 64;
    base.preemptions_max = 2;
    base.experts = experts_;
    base.expert_slots = 2;
    base.load_cost = &load_cost_;
    base.habits = &habits_;
    return batch_.View(base);
  }
  Proposal Propose() { return HorizonPlanner(kAgeSteps).Propose(View()); }
  std::vector<SeqId> RowsOf(const Proposal& proposal) {
    std::vector<SeqId> ids;
    for (const ProposedRow& row : proposal.rows) ids.push_back(row.seq_id);
    return ids;
  }
  // The two that are to be resident.
  std::vector<ExpertId> Chosen(const Proposal& proposal) {
    std::vector<ExpertId> chosen(proposal.experts.begin(), proposal.experts.begin() + 2);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }

  Batch batch_;
  LoadCost load_cost_;
  RouteHabits habits_;
  std::vector<ExpertPlace> experts_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  StepId step_ = 1;
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

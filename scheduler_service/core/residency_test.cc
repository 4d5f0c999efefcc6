#include "scheduler_service/core/residency.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

MATCHER_P2(Unit, layer, expert, "") { return arg.layer == layer && arg.expert == expert; }

TEST(UnitMirrorTest, FollowsEvents) {
  UnitMirror mirror;
  mirror.Reset(7, 2, 3, {{0, 1}, {1, 1}});
  EXPECT_EQ(mirror.num_resident(1), 2);
  ASSERT_TRUE(mirror
                  .Apply({{1, {0, 1}, UnitState::kAbsent},
                          {2, {0, 2}, UnitState::kLoading},
                          {3, {0, 2}, UnitState::kResident},
                          {4, {1, 2}, UnitState::kFailed}})
                  .ok());
  EXPECT_EQ(mirror.num_resident(1), 1);
  EXPECT_EQ(mirror.num_resident(2), 1);
  EXPECT_EQ(mirror.StateOf({1, 2}), UnitState::kFailed);
}

TEST(UnitMirrorTest, AGapIsFoundAndTheEventCounts) {
  UnitMirror mirror;
  mirror.Reset(7, 2, 3, {});
  ASSERT_TRUE(mirror.Apply({{1, {0, 0}, UnitState::kResident}}).ok());
  EXPECT_TRUE(absl::IsDataLoss(mirror.Apply({{3, {0, 1}, UnitState::kResident}})));
  EXPECT_EQ(mirror.num_resident(1), 1);
  EXPECT_TRUE(mirror.Apply({{4, {1, 1}, UnitState::kResident}}).ok());
}

TEST(UnitMirrorTest, NonsenseChangesNothing) {
  UnitMirror mirror;
  mirror.Reset(7, 2, 3, {{9, 9}});
  ASSERT_TRUE(mirror.Apply({{1, {0, 0}, UnitState::kResident}}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(mirror.Apply({{1, {0, 0}, UnitState::kAbsent}})));
  EXPECT_TRUE(absl::IsInvalidArgument(mirror.Apply({{2, {2, 0}, UnitState::kResident}})));
  EXPECT_TRUE(absl::IsInvalidArgument(mirror.Apply({{2, {0, -1}, UnitState::kResident}})));
  EXPECT_EQ(mirror.num_resident(0), 1);
}

TEST(UnitMirrorTest, NumbersMayJumpOverAReconnectionButStartAgainWithAProcess) {
  UnitMirror mirror;
  mirror.Reset(7, 2, 3, {});
  ASSERT_TRUE(mirror.Apply({{1, {0, 0}, UnitState::kResident}}).ok());
  mirror.Reset(7, 2, 3, {{0, 0}, {0, 1}});
  EXPECT_TRUE(mirror.Apply({{5, {0, 2}, UnitState::kResident}}).ok());
  EXPECT_TRUE(absl::IsDataLoss(mirror.Apply({{7, {0, 2}, UnitState::kResident}})));
  mirror.Reset(8, 2, 3, {});
  EXPECT_TRUE(absl::IsDataLoss(mirror.Apply({{2, {0, 2}, UnitState::kResident}})));
}

// Sequences written as routes; a row takes the first `count` tokens of one.
class WantedTest : public testing::Test {
 protected:
  void Hello_(int32_t rank, int32_t slots, std::vector<UnitId> resident = {}) {
    Hello hello;
    hello.incarnation = 1;
    hello.facts.num_layers = 2;
    hello.facts.num_experts = 4;
    hello.facts.unit_slots = slots;
    hello.resident_units = std::move(resident);
    residency_.OnHello(rank, hello);
  }
  void OneRank(int32_t slots) {
    Hello_(0, slots);
    residency_.BeginEpoch({0}, {{{0}, {0}, {0}, {0}}});
  }
  Sequence* Add(const std::string& routes, std::vector<const Sequence*>* queue) {
    auto s = std::make_unique<Sequence>();
    s->id = sequences_.size() + 1;
    for (char c : routes) s->Append(9, c == '?' ? kNoRoute : c - '0');
    queue->push_back(s.get());
    sequences_.push_back(std::move(s));
    return sequences_.back().get();
  }
  std::vector<Wanted> Want(std::initializer_list<ProposedRow> rows) {
    PlannerView view;
    view.step_id = ++step_;
    residency_.Fill(&view);
    view.running = running_;
    view.waiting = waiting_;
    Proposal proposal;
    proposal.rows = rows;
    proposal.experts = plan_;
    return residency_.Want(view, proposal);
  }

  Residency residency_{Eviction::kNextUse};
  std::vector<const Sequence*> running_, waiting_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::vector<ExpertId> plan_;
  StepId step_ = 0;
};

TEST_F(WantedTest, TheStepComesLayerByLayerThenWhoIsUsedNext) {
  OneRank(6);
  Add("20", &running_);
  Add("1", &running_);
  Add("3", &waiting_);
  const std::vector<Wanted> wanted = Want({{1, 0, 1}, {2, 0, 1}});
  ASSERT_THAT(wanted, testing::SizeIs(1));
  EXPECT_THAT(wanted[0].units, ElementsAre(Unit(0, 1), Unit(0, 2), Unit(1, 1), Unit(1, 2),
                                           Unit(0, 0), Unit(1, 0), Unit(0, 3), Unit(1, 3)));
  EXPECT_EQ(wanted[0].load_first, 6) << "of eight that are named";
}

TEST_F(WantedTest, OnlyWhatIsNamedIsLoadedAhead) {
  OneRank(6);
  Add("1", &running_);
  const std::vector<Wanted> wanted = Want({{1, 0, 1}});
  ASSERT_THAT(wanted, testing::SizeIs(1));
  EXPECT_EQ(wanted[0].load_first, 2);
}

TEST_F(WantedTest, AnUnknownRouteNamesNothing) {
  OneRank(6);
  Add("1?3", &running_);
  EXPECT_EQ(Want({{1, 0, 1}})[0].load_first, 2);
  ProposedRow late{1, 3, 1, true};
  EXPECT_EQ(Want({late})[0].load_first, 0);
}

TEST_F(WantedTest, LruOrdersByTheLastStepAndLoadsNothingAhead) {
  residency_ = Residency(Eviction::kLru);
  OneRank(6);
  Sequence* s = Add("2013", &running_);
  for (int32_t i = 0; i < 3; ++i) {
    s->planned = i;
    Want({{1, i, 1}});
  }
  s->planned = 3;
  const std::vector<Wanted> wanted = Want({{1, 3, 1}});
  ASSERT_THAT(wanted, testing::SizeIs(1));
  EXPECT_THAT(wanted[0].units, ElementsAre(Unit(0, 3), Unit(1, 3), Unit(0, 1), Unit(1, 1),
                                           Unit(0, 0), Unit(1, 0), Unit(0, 2), Unit(1, 2)));
  EXPECT_EQ(wanted[0].load_first, 2);
}

TEST_F(WantedTest, ThePlanIsFollowedAsFarAsItFits) {
  residency_ = Residency(Eviction::kPlan);
  OneRank(6);
  Add("1", &running_);
  plan_ = {2, 0, 1, 3};
  const std::vector<Wanted> wanted = Want({{1, 0, 1}});
  ASSERT_THAT(wanted, testing::SizeIs(1));
  EXPECT_THAT(wanted[0].units,
              ElementsAre(Unit(0, 2), Unit(1, 2), Unit(0, 0), Unit(1, 0), Unit(0, 1), Unit(1, 1)))
      << "the step's own units are the worker's concern";
  EXPECT_EQ(wanted[0].load_first, 6);
  EXPECT_THAT(Want({{1, 0, 1}}), IsEmpty());
  ASSERT_TRUE(residency_.OnEvents(0, {{1, {0, 1}, UnitState::kResident}}).ok());
  EXPECT_THAT(Want({{1, 0, 1}})[0].units[0], Unit(0, 1)) << "what has begun goes on";
}

TEST_F(WantedTest, WhatIsThereKeepsItsPlaceWhateverThePlansOrder) {
  residency_ = Residency(Eviction::kPlan);
  Hello_(0, 6, {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {0, 3}, {1, 3}});
  residency_.BeginEpoch({0}, {{{0}, {0}, {0}, {0}}});
  Add("1", &running_);
  plan_ = {3, 0, 1, 2};
  EXPECT_THAT(Want({{1, 0, 1}}), testing::SizeIs(1));
  plan_ = {1, 3, 0, 2};
  EXPECT_THAT(Want({{1, 0, 1}}), IsEmpty());
  plan_ = {1, 2, 0, 3};
  EXPECT_THAT(Want({{1, 0, 1}})[0].units,
              ElementsAre(Unit(0, 0), Unit(1, 0), Unit(0, 1), Unit(1, 1), Unit(0, 2), Unit(1, 2)));
}

TEST_F(WantedTest, WithoutAPlanNextUseDecides) {
  residency_ = Residency(Eviction::kPlan);
  OneRank(6);
  Add("1", &running_);
  EXPECT_EQ(Want({{1, 0, 1}})[0].load_first, 2);
}

TEST_F(WantedTest, IsSentWhenItChanges) {
  OneRank(6);
  Add("111", &running_);
  EXPECT_THAT(Want({{1, 0, 1}}), testing::SizeIs(1));
  EXPECT_THAT(Want({{1, 1, 1}}), IsEmpty());
  residency_.BeginEpoch({0}, {{{0}, {0}, {0}, {0}}});
  EXPECT_THAT(Want({{1, 2, 1}}), testing::SizeIs(1)) << "a new epoch has none";
}

TEST_F(WantedTest, NothingIsWantedWhereEverythingFits) {
  OneRank(8);
  Add("1", &running_);
  EXPECT_TRUE(residency_.all_fit());
  EXPECT_THAT(Want({{1, 0, 1}}), IsEmpty());
  OneRank(0);
  EXPECT_TRUE(residency_.all_fit());
}

TEST_F(WantedTest, ARankHearsOfItsOwnExpertsOnly) {
  Hello_(2, 2);
  Hello_(5, 4);
  residency_.BeginEpoch({2, 5}, {{{0}, {1}, {0}, {1}}});
  EXPECT_FALSE(residency_.all_fit());
  Add("0123", &running_);
  const std::vector<Wanted> wanted = Want({{1, 0, 4}});
  ASSERT_THAT(wanted, testing::SizeIs(1)) << "rank 5 holds its two experts whole";
  EXPECT_EQ(wanted[0].rank, 2);
  EXPECT_THAT(wanted[0].units, ElementsAre(Unit(0, 0), Unit(0, 2), Unit(1, 0), Unit(1, 2)));
  EXPECT_EQ(wanted[0].load_first, 2);
}

TEST_F(WantedTest, PlannersSeeWhatIsResident) {
  Hello_(0, 6, {{0, 1}, {1, 1}, {0, 2}});
  residency_.BeginEpoch({0}, {{{0}, {0}, {0}, {0}}});
  PlannerView view;
  residency_.Fill(&view);
  EXPECT_EQ(view.expert_slots, 3);
  EXPECT_TRUE(view.experts[1].resident);
  EXPECT_FALSE(view.experts[2].resident);
  EXPECT_EQ(view.experts[2].units_resident, 1);
  ASSERT_TRUE(residency_.OnEvents(0, {{1, {1, 2}, UnitState::kResident}}).ok());
  residency_.Fill(&view);
  EXPECT_TRUE(view.experts[2].resident);
}

TEST_F(WantedTest, UnitsOfARankAreThoseThatItTellsOrHoldsWhole) {
  using enum UnitState;
  EXPECT_THAT(residency_.UnitsOf(0), IsEmpty());
  Hello_(0, 6, {{0, 1}, {1, 1}});
  Hello_(1, 0);
  residency_.BeginEpoch({0, 1}, {{{0}, {0}, {0, 1}, {1}}});
  ASSERT_TRUE(residency_.OnEvents(0, {{1, {1, 1}, kAbsent}, {2, {1, 2}, kLoading}}).ok());
  EXPECT_THAT(residency_.UnitsOf(0), ElementsAre(kAbsent, kResident, kAbsent, kAbsent,  //
                                                 kAbsent, kAbsent, kLoading, kAbsent));
  EXPECT_THAT(residency_.UnitsOf(1), ElementsAre(kAbsent, kAbsent, kResident, kResident,  //
                                                 kAbsent, kAbsent, kResident, kResident));
}

}  // namespace
}  // namespace pregate::scheduler

#include "expert_service/core/residency.h"

#include <random>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::ElementsAre;

constexpr int kPrefetches = 2;

// Loads until nothing is to be done; every load arrives at once.
void Settle(Residency& r) {
  while (const auto load = r.NextLoad(kPrefetches)) r.OnLoaded(load->unit);
}

void Use(Residency& r, const UnitId& unit) {
  r.Lease(unit);
  r.Release(unit);
}

TEST(ResidencyTest, LoadsDemandInItsOrderThenTheFirstOfWhatIsWanted) {
  Residency r(2, 3, 6);
  r.SetWanted(std::vector<UnitId>{{1, 2}, {0, 2}, {0, 0}}, 2);
  r.BeginStep({{0, 1}, {1, 1}});
  std::vector<UnitId> order;
  while (const auto load = r.NextLoad(kPrefetches)) {
    order.push_back(load->unit);
    r.OnLoaded(load->unit);
  }
  EXPECT_THAT(order, ElementsAre(UnitId{0, 1}, UnitId{1, 1}, UnitId{1, 2}, UnitId{0, 2}));
}

TEST(ResidencyTest, WhatNobodyWantsGivesWayFirstThenTheTailOfTheList) {
  Residency r(1, 6, 3);
  r.BeginStep({{0, 0}, {0, 1}, {0, 2}});
  Settle(r);
  for (int e : {0, 1, 2}) Use(r, {0, e});
  r.SetWanted(std::vector<UnitId>{{0, 1}, {0, 2}}, 0);
  r.BeginStep({{0, 3}});  // 0 is unlisted
  Settle(r);
  EXPECT_EQ(r.state({0, 0}), UnitState::kAbsent);
  Use(r, {0, 3});
  r.SetWanted(std::vector<UnitId>{{0, 3}, {0, 1}, {0, 2}}, 0);
  r.BeginStep({{0, 4}});  // 2 is last in the list
  Settle(r);
  EXPECT_EQ(r.state({0, 2}), UnitState::kAbsent);
  EXPECT_EQ(r.state({0, 1}), UnitState::kResident);
  EXPECT_EQ(r.state({0, 3}), UnitState::kResident);
  EXPECT_EQ(r.counts().evictions, 2);
}

TEST(ResidencyTest, AmongTheUnwantedTheLongestUnusedGivesWay) {
  Residency r(1, 4, 2);
  r.BeginStep({{0, 0}});
  Settle(r);
  Use(r, {0, 0});
  r.BeginStep({{0, 1}});
  Settle(r);
  Use(r, {0, 1});
  r.BeginStep({{0, 0}});
  Settle(r);
  Use(r, {0, 0});
  r.BeginStep({{0, 2}});
  Settle(r);
  EXPECT_EQ(r.state({0, 1}), UnitState::kAbsent);
  EXPECT_EQ(r.state({0, 0}), UnitState::kResident);
}

TEST(ResidencyTest, APrefetchNeverDisplacesWhatIsNeededSooner) {
  Residency r(1, 4, 2);
  r.SetWanted(std::vector<UnitId>{{0, 0}, {0, 1}, {0, 2}}, 3);
  Settle(r);
  EXPECT_THAT(r.ResidentUnits(), ElementsAre(UnitId{0, 0}, UnitId{0, 1}));
  r.SetWanted(std::vector<UnitId>{{0, 2}, {0, 0}, {0, 1}}, 3);
  Settle(r);
  EXPECT_THAT(r.ResidentUnits(), ElementsAre(UnitId{0, 0}, UnitId{0, 2}));
}

TEST(ResidencyTest, PrefetchesUnderWayAreBoundedDemandIsNot) {
  Residency r(1, 8, 8);
  r.SetWanted(std::vector<UnitId>{{0, 0}, {0, 1}, {0, 2}, {0, 3}}, 4);
  EXPECT_TRUE(r.NextLoad(kPrefetches).has_value());
  EXPECT_TRUE(r.NextLoad(kPrefetches).has_value());
  EXPECT_FALSE(r.NextLoad(kPrefetches).has_value());
  r.BeginStep({{0, 0}, {0, 4}, {0, 5}, {0, 6}});
  for (int e : {4, 5, 6}) EXPECT_EQ(r.NextLoad(kPrefetches)->unit, (UnitId{0, e}));
  EXPECT_FALSE(r.NextLoad(kPrefetches).has_value());
  EXPECT_EQ(r.counts().late_prefetches, 1);
  EXPECT_EQ(r.counts().misses, 3);
  r.OnLoaded({0, 0});
  EXPECT_EQ(r.NextLoad(kPrefetches)->unit, (UnitId{0, 2}));
}

TEST(ResidencyTest, LacksASlotWhereALoadOfTheStepWaitsForNothingElse) {
  Residency r(2, 3, 2);
  EXPECT_FALSE(r.lacks_slot());
  r.BeginStep({{0, 0}, {0, 1}, {1, 0}});
  const auto first = r.NextLoad(kPrefetches), second = r.NextLoad(kPrefetches);
  EXPECT_FALSE(r.NextLoad(kPrefetches).has_value());
  EXPECT_FALSE(r.lacks_slot()) << "two copies are under way";
  r.OnLoaded(first->unit);
  EXPECT_FALSE(r.NextLoad(kPrefetches).has_value());
  EXPECT_TRUE(r.lacks_slot());
  r.OnLoaded(second->unit);
  Use(r, {0, 0});
  Settle(r);
  EXPECT_EQ(r.state({1, 0}), UnitState::kResident);
  EXPECT_FALSE(r.lacks_slot());
  r.EndStep();
  EXPECT_FALSE(r.lacks_slot());
}

TEST(ResidencyTest, AUnitThatIsReturnedIsStillToBeUsed) {
  Residency r(1, 3, 1);
  r.BeginStep({{0, 0}, {0, 1}});
  Settle(r);
  r.Lease({0, 0});
  r.Return({0, 0});
  Settle(r);
  EXPECT_EQ(r.state({0, 0}), UnitState::kResident) << "gave way though the step needs it";
  Use(r, {0, 0});
  Settle(r);
  EXPECT_EQ(r.state({0, 1}), UnitState::kResident);
}

// A step that sweeps over everything, between steps of what is wanted: the wanted units keep their slots
// but for those through which the rest streams.
TEST(ResidencyTest, ASweepTakesNoMoreOfWhatIsWantedThanTheLinkNeeds) {
  constexpr int kLayers = 16, kExperts = 5;
  Residency r(kLayers, kExperts, 2 * kLayers);
  std::vector<UnitId> wanted, all;
  for (int e = 0; e < 2; ++e) {
    for (int l = 0; l < kLayers; ++l) wanted.push_back({l, e});
  }
  for (int l = 0; l < kLayers; ++l) {
    for (int e = 0; e < kExperts; ++e) all.push_back({l, e});
  }
  r.SetWanted(wanted, 2 * kLayers);
  Settle(r);
  const int64_t before = r.counts().loads;
  r.BeginStep(all);
  std::vector<UnitId> under_way;
  for (int l = 0; l < kLayers; ++l) {
    r.BeginLayer(l);
    for (int e = 0; e < kExperts;) {
      while (const auto load = r.NextLoad(kPrefetches)) under_way.push_back(load->unit);
      if (r.state({l, e}) == UnitState::kResident) {
        Use(r, {l, e++});
        continue;
      }
      ASSERT_FALSE(under_way.empty());
      r.OnLoaded(under_way.front());  // the link is what everything waits for
      under_way.erase(under_way.begin());
    }
  }
  r.EndStep();
  for (const UnitId& unit : under_way) r.OnLoaded(unit);
  Settle(r);
  const int64_t streamed = int64_t{kLayers} * (kExperts - 2);
  // Slots to stream through: two under way, and what waits to run or has just run.
  EXPECT_LE(r.counts().loads - before, streamed + 6);
  for (const UnitId& unit : wanted) EXPECT_EQ(r.state(unit), UnitState::kResident);
}

TEST(ResidencyTest, LeasedUnitsStay) {
  Residency r(1, 3, 1);
  r.BeginStep({{0, 0}, {0, 1}});
  Settle(r);
  r.Lease({0, 0});
  EXPECT_FALSE(r.NextLoad(kPrefetches).has_value());
  r.Release({0, 0});
  EXPECT_EQ(r.NextLoad(kPrefetches)->unit, (UnitId{0, 1}));
}

// Eight layers of two experts through twelve slots, the same in every step: what the last layers
// need stays, so a step loads as little as it can.
TEST(ResidencyTest, LoadsAheadDoNotDisplaceTheDemandOfLaterLayers) {
  constexpr int kLayers = 8;
  Residency r(kLayers, 2, 12);
  const auto run_step = [&] {
    std::vector<UnitId> demand;
    for (int l = 0; l < kLayers; ++l) demand.insert(demand.end(), {{l, 0}, {l, 1}});
    r.BeginStep(demand);
    for (int l = 0; l < kLayers; ++l) {
      r.BeginLayer(l);
      for (int e = 0; e < 2; ++e) {
        Settle(r);
        Use(r, {l, e});
      }
    }
  };
  for (int step = 0; step < 3; ++step) run_step();
  const int64_t before = r.counts().loads;
  for (int step = 0; step < 10; ++step) run_step();
  EXPECT_LE(r.counts().loads - before, 10 * 6) << "the optimum is 4.3 of 16 a step";
}

TEST(ResidencyTest, EventsAreNumberedAndTellTheWholeStory) {
  Residency r(1, 2, 1);
  r.BeginStep({{0, 0}});
  Settle(r);
  Use(r, {0, 0});
  r.BeginStep({{0, 1}});
  Settle(r);
  uint64_t number = 0;
  std::vector<std::pair<int, UnitState>> story;
  for (const UnitEvent& e : r.TakeEvents()) {
    EXPECT_EQ(e.number, ++number);
    story.emplace_back(e.unit.expert, e.state);
  }
  using enum UnitState;
  EXPECT_THAT(story,
              ElementsAre(std::pair(0, kLoading), std::pair(0, kResident), std::pair(0, kAbsent),
                          std::pair(1, kLoading), std::pair(1, kResident)));
  EXPECT_TRUE(r.TakeEvents().empty());
}

// Any step ends with any number of slots: wave by wave, each unit leased once.
TEST(ResidencyTest, EveryStepEndsWithOneSlotAndMore) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    const int layers = 1 + random() % 5, experts = 1 + random() % 6;
    const int slots = 1 + random() % (layers * experts);
    Residency r(layers, experts, slots);
    std::vector<UnitId> in_flight;
    const auto arrive = [&] {
      r.OnLoaded(in_flight.front());
      in_flight.erase(in_flight.begin());
    };
    for (int step = 0; step < 6; ++step) {
      std::vector<UnitId> wanted, demand;
      for (int i = random() % (layers * experts + 1); i > 0; --i) {
        wanted.push_back({int(random() % layers), int(random() % experts)});
      }
      r.SetWanted(wanted, wanted.empty() ? 0 : random() % wanted.size());
      std::set<int> expert_set;
      for (int i = random() % (experts + 1); i > 0; --i) expert_set.insert(random() % experts);
      for (int l = 0; l < layers; ++l) {
        for (int e : expert_set) demand.push_back({l, e});
      }
      r.BeginStep(demand);
      for (int l = 0; l < layers; ++l) {
        r.BeginLayer(l);
        std::set<int> left = expert_set;
        for (int turns = 0; !left.empty(); ++turns) {
          ASSERT_LT(turns, 100) << "no progress";
          while (const auto load = r.NextLoad(kPrefetches)) in_flight.push_back(load->unit);
          std::vector<int> wave;
          for (int e : left) {
            if (r.state({l, e}) == UnitState::kResident) wave.push_back(e);
          }
          if (wave.empty()) {
            ASSERT_FALSE(in_flight.empty()) << "nothing to wait for";
            arrive();
          }
          for (int e : wave) {
            Use(r, {l, e});
            left.erase(e);
          }
          ASSERT_LE(r.num_resident() + static_cast<int>(in_flight.size()), slots);
        }
      }
      if (random() % 2 == 0) r.EndStep();
    }
  }
}

}  // namespace
}  // namespace pregate

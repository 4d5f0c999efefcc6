#include "scheduler_service/core/optimal_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "sim/mix.h"

namespace pregate::scheduler {
namespace {

// The best over all choices of victims.
int64_t BestOfAll(const std::vector<int32_t>& references, size_t at, std::set<int32_t> resident,
                  size_t slots) {
  if (at == references.size()) return 0;
  const int32_t unit = references[at];
  if (resident.contains(unit)) return 1 + BestOfAll(references, at + 1, resident, slots);
  if (resident.size() < slots) {
    resident.insert(unit);
    return BestOfAll(references, at + 1, resident, slots);
  }
  int64_t best = 0;
  for (const int32_t victim : std::vector<int32_t>(resident.begin(), resident.end())) {
    std::set<int32_t> next = resident;
    next.erase(victim);
    next.insert(unit);
    best = std::max(best, BestOfAll(references, at + 1, next, slots));
  }
  return best;
}

TEST(OptimalHitsTest, NoChoiceOfVictimsIsBetter) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::vector<int32_t> references;
    for (int i = 0; i < 12; ++i) references.push_back(static_cast<int32_t>(sim::Mix(seed, i) % 5));
    const int32_t slots = 1 + static_cast<int32_t>(seed % 3);
    ASSERT_EQ(OptimalHits(references, 5, slots), BestOfAll(references, 0, {}, slots)) << seed;
  }
}

TEST(OptimalHitsTest, ACycleKeepsWhatFitsLessOne) {
  std::vector<int32_t> references;
  for (int i = 0; i < 1000; ++i) references.push_back(i % 5);
  EXPECT_NEAR(OptimalHits(references, 5, 3) / 1000.0, 0.5, 0.01);
  EXPECT_EQ(OptimalHits(references, 5, 5), 995);
}

TEST(ReuseWindowTest, TellsWhatWasLoadedBesideTheOptimum) {
  ReuseWindow window;
  window.Begin(4, 2, {0, 1});
  EXPECT_EQ(window.reuse(), Reuse());
  // 0 1 2 in turn: the optimum loads every second reference, LRU each.
  for (int i = 0; i < 4000; ++i) window.OnStep({i % 3}, 6, 6, {0, 1});
  EXPECT_NEAR(window.reuse().ratio, 0, 1e-9);
  EXPECT_NEAR(window.reuse().optimal_ratio, 0.5, 0.01);
}

TEST(ReuseWindowTest, WhatIsResidentFromTheStartCostsNothing) {
  ReuseWindow window;
  window.Begin(4, 2, {0, 1});
  for (int i = 0; i < 4000; ++i) window.OnStep({0, 1}, 0, 6, {0, 1});
  EXPECT_EQ(window.reuse(), Reuse());
}

TEST(ReuseWindowTest, WhereEverythingFitsNothingIsCollected) {
  ReuseWindow window;
  window.Begin(4, 0, {0, 1, 2, 3});
  for (int i = 0; i < 4000; ++i) window.OnStep({i % 4}, 1, 6, {0, 1, 2, 3});
  EXPECT_EQ(window.reuse(), Reuse());
}

}  // namespace
}  // namespace pregate::scheduler

#include "sim/reference_caches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "scheduler_service/core/optimal_cache.h"
#include "sim/mix.h"

namespace pregate::sim {
namespace {

// LRU by its definition: a reference hits if fewer than `slots` other units came since the last one.
int64_t LruByStackDistance(const std::vector<int32_t>& references, int32_t slots) {
  int64_t hits = 0;
  for (size_t i = 0; i < references.size(); ++i) {
    std::vector<int32_t> since;
    for (size_t j = i; j-- > 0;) {
      if (references[j] == references[i]) {
        hits += static_cast<int32_t>(since.size()) < slots;
        break;
      }
      if (std::find(since.begin(), since.end(), references[j]) == since.end()) {
        since.push_back(references[j]);
      }
    }
  }
  return hits;
}

TEST(ReferenceCachesTest, LruIsLruAndNobodyBeatsTheOptimum) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    std::vector<int32_t> references;
    for (int i = 0; i < 300; ++i) references.push_back(static_cast<int32_t>(Mix(seed, i) % 9));
    const int32_t slots = 1 + static_cast<int32_t>(seed % 7);
    const int64_t lru = LruHits(references, 9, slots);
    ASSERT_EQ(lru, LruByStackDistance(references, slots)) << "seed " << seed;
    const int64_t optimum = scheduler::OptimalHits(references, 9, slots);
    EXPECT_LE(lru, optimum) << "seed " << seed;
    EXPECT_LE(RandomHits(references, 9, slots, seed), optimum) << "seed " << seed;
  }
}

TEST(ReferenceCachesTest, EvenReferencesHitAsOftenAsSlotsSay) {
  std::vector<int32_t> references;
  for (int i = 0; i < 50000; ++i) references.push_back(static_cast<int32_t>(Mix(3, i) % 10));
  EXPECT_NEAR(RandomHits(references, 10, 4, 1) / 50000.0, 0.4, 0.01);
  EXPECT_NEAR(LruHits(references, 10, 4) / 50000.0, 0.4, 0.01);
  EXPECT_EQ(RandomHits(references, 10, 10, 1), 49990);
}

}  // namespace
}  // namespace pregate::sim

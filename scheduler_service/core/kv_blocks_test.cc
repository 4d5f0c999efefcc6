#include "scheduler_service/core/kv_blocks.h"

#include <gmock/gmock.h>

#include <set>

#include "scheduler_service/core/random_source.h"

namespace pregate::scheduler {
namespace {

TEST(BlockAllocatorTest, GivesEveryBlockOnce) {
  BlockAllocator blocks(5);
  const std::vector<BlockId> a = blocks.Allocate(2), b = blocks.Allocate(3);
  std::set<BlockId> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<BlockId>{0, 1, 2, 3, 4}));
  EXPECT_EQ(blocks.num_free(), 0);
  blocks.Free(a);
  EXPECT_EQ(blocks.num_used(), 3);
}

TEST(BlockAllocatorTest, KeepsItsBooksUnderRandomUse) {
  SplitMix64 random(7);
  BlockAllocator blocks(40);
  std::vector<std::vector<BlockId>> held;
  std::set<BlockId> used;
  for (int round = 0; round < 5000; ++round) {
    if (!held.empty() && random.Next() % 2 == 0) {
      std::swap(held[random.Next() % held.size()], held.back());
      for (BlockId id : held.back()) used.erase(id);
      blocks.Free(held.back());
      held.pop_back();
    } else {
      const int32_t count = std::min<int32_t>(random.Next() % 6, blocks.num_free());
      held.push_back(blocks.Allocate(count));
      for (BlockId id : held.back()) {
        ASSERT_TRUE(id >= 0 && id < 40 && used.insert(id).second) << "block " << id;
      }
    }
    ASSERT_EQ(blocks.num_used(), static_cast<int32_t>(used.size()));
  }
}

TEST(BlockAllocatorDeathTest, RefusesADoubleFree) {
  BlockAllocator blocks(2);
  const std::vector<BlockId> ids = blocks.Allocate(1);
  blocks.Free(ids);
  // No regular expressions: Oniguruma has a regcomp of its own, and under ThreadSanitizer gtest's
  // regexec is the C library's.
  EXPECT_DEATH(blocks.Free(ids), testing::HasSubstr("is not in use"));
  EXPECT_DEATH(blocks.Allocate(3), testing::HasSubstr("blocks asked 3, free 2"));
}

}  // namespace
}  // namespace pregate::scheduler

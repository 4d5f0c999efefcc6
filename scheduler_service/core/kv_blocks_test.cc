#include "scheduler_service/core/kv_blocks.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <set>

#include "scheduler_service/core/random_source.h"

namespace pregate::scheduler {
namespace {

using testing::ElementsAre;

// Of the prompt `name`, its block `index`: routes say the name.
PrefixKey KeyOf(int32_t name, int32_t index) {
  PrefixKey key = EmptyPrefix("model", "");
  const std::vector<TokenId> tokens(kKvBlockTokens, 7);
  for (int32_t i = 0; i <= index; ++i) {
    key = NextPrefix(key, tokens, std::vector<ExpertId>(kKvBlockTokens, name));
  }
  return key;
}

TEST(PrefixKeyTest, DependsOnAllThatTheContentsDependOn) {
  std::vector<TokenId> tokens(kKvBlockTokens, 1);
  std::vector<ExpertId> routes(kKvBlockTokens, 0);
  const PrefixKey empty = EmptyPrefix("digest", "a");
  std::vector<PrefixKey> keys = {empty, EmptyPrefix("digest", "b"), EmptyPrefix("digesta", ""),
                                 EmptyPrefix("other", "a"), NextPrefix(empty, tokens, routes)};
  keys.push_back(NextPrefix(keys[1], tokens, routes));
  keys.push_back(NextPrefix(keys[4], tokens, routes));
  tokens[15] = 2;
  keys.push_back(NextPrefix(empty, tokens, routes));
  routes[0] = 1;
  keys.push_back(NextPrefix(empty, tokens, routes));
  for (size_t i = 0; i < keys.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(keys[i], keys[j]) << i << " and " << j;
  }
  EXPECT_EQ(NextPrefix(empty, tokens, routes), keys.back());
}

TEST(KvBlocksTest, GivesEveryBlockOnce) {
  KvBlocks blocks(5);
  const std::vector<BlockId> a = blocks.Allocate(2), b = blocks.Allocate(3);
  std::set<BlockId> all(a.begin(), a.end());
  all.insert(b.begin(), b.end());
  EXPECT_EQ(all, (std::set<BlockId>{0, 1, 2, 3, 4}));
  EXPECT_EQ(blocks.num_free(), 0);
  blocks.Release(a);
  EXPECT_EQ(blocks.num_used(), 3);
}

TEST(KvBlocksTest, APrefixLosesItsEndFirst) {
  KvBlocks blocks(4);
  const std::vector<BlockId> ids = blocks.Allocate(3);
  std::vector<PrefixKey> keys;
  for (int32_t i = 0; i < 3; ++i) {
    keys.push_back(KeyOf(1, i));
    blocks.Publish(ids[i], keys[i]);
  }
  blocks.Release(ids);
  EXPECT_EQ(blocks.num_free(), 4);
  EXPECT_EQ(blocks.CountFound(keys), 3);
  blocks.Allocate(2);
  EXPECT_EQ(blocks.CountFound(keys), 2);
  blocks.Allocate(1);
  EXPECT_EQ(blocks.CountFound(keys), 1);
  EXPECT_EQ(blocks.num_evictions(), 2);
}

TEST(KvBlocksTest, WhatIsUsedAgainLeavesLast) {
  KvBlocks blocks(2);
  const std::vector<BlockId> ids = blocks.Allocate(2);
  blocks.Publish(ids[0], KeyOf(1, 0));
  blocks.Publish(ids[1], KeyOf(2, 0));
  blocks.Release({ids[0]});
  blocks.Release({ids[1]});
  blocks.Share({ids[0]});
  EXPECT_EQ(blocks.num_used(), 1);
  blocks.Release({ids[0]});
  EXPECT_THAT(blocks.Allocate(1), ElementsAre(ids[1]));
  EXPECT_EQ(blocks.Find(KeyOf(2, 0)), std::nullopt);
}

TEST(KvBlocksTest, OfTwoAlikeTheFirstIsFound) {
  KvBlocks blocks(3);
  const std::vector<BlockId> ids = blocks.Allocate(2);
  blocks.Publish(ids[0], KeyOf(1, 0));
  blocks.Publish(ids[1], KeyOf(1, 0));
  EXPECT_EQ(blocks.Find(KeyOf(1, 0)), ids[0]);
  EXPECT_EQ(blocks.num_cached(), 1);
  blocks.Retract(ids[0]);
  EXPECT_EQ(blocks.Find(KeyOf(1, 0)), std::nullopt);
  EXPECT_EQ(blocks.num_used(), 2);
}

// Every rule of KvBlocks in its plainest form.
class Reference {
 public:
  explicit Reference(int32_t num_blocks) : num_blocks_(num_blocks) {}

  // Whether Allocate may give these.
  void Allocate(const std::vector<BlockId>& ids) {
    for (const BlockId id : ids) {
      ASSERT_EQ(users_[id], 0) << "block " << id << " is in use";
      const bool holds_nothing = !key_of_.contains(id);
      if (!holds_nothing) {
        ASSERT_EQ(static_cast<int32_t>(key_of_.size()) + NumPlain(), num_blocks_)
            << "evicts " << id << " while others hold nothing";
        ASSERT_EQ(id, unused_.front()) << "not the one that was in use longest ago";
        unused_.erase(unused_.begin());
        key_of_.erase(id);
      }
      users_[id] = 1;
    }
  }
  void Release(const std::vector<BlockId>& ids) {
    for (auto id = ids.rbegin(); id != ids.rend(); ++id) {
      if (--users_[*id] == 0 && key_of_.contains(*id)) unused_.push_back(*id);
    }
  }
  void Publish(BlockId id, const PrefixKey& key) {
    if (Find(key) == std::nullopt) key_of_[id] = key;
  }
  void Retract(BlockId id) {
    key_of_.erase(id);
    std::erase(unused_, id);
  }
  void Share(BlockId id) {
    if (users_[id]++ == 0) std::erase(unused_, id);
  }
  std::optional<BlockId> Find(const PrefixKey& key) const {
    for (const auto& [id, its] : key_of_) {
      if (its == key) return id;
    }
    return std::nullopt;
  }
  int32_t num_used() const {
    return std::count_if(users_.begin(), users_.end(), [](auto& u) { return u.second > 0; });
  }
  int32_t num_cached() const { return static_cast<int32_t>(key_of_.size()); }

 private:
  // In use, and holding nothing that can be found.
  int32_t NumPlain() const {
    return std::count_if(users_.begin(), users_.end(),
                         [&](auto& u) { return u.second > 0 && !key_of_.contains(u.first); });
  }

  const int32_t num_blocks_;
  std::map<BlockId, int32_t> users_;
  std::map<BlockId, PrefixKey> key_of_;
  std::vector<BlockId> unused_;  // in the cache; the first was in use longest ago
};

TEST(KvBlocksTest, KeepsItsBooksUnderRandomUse) {
  std::vector<std::vector<PrefixKey>> keys(6);
  for (int32_t name = 0; name < 6; ++name) {
    for (int32_t i = 0; i < 5; ++i) keys[name].push_back(KeyOf(name, i));
  }
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    SplitMix64 random(seed);
    const auto below = [&](int32_t n) { return static_cast<int32_t>(random.Next() % n); };
    const int32_t num_blocks = 8 + below(30);
    KvBlocks blocks(num_blocks);
    Reference reference(num_blocks);
    struct Holder {
      int32_t name;
      int32_t published;
      std::vector<BlockId> blocks;
    };
    std::vector<Holder> held;
    for (int round = 0; round < 3000; ++round) {
      const int32_t dice = below(8);
      if (dice < 3) {  // comes, finds what is there and takes the rest
        Holder h{below(6), 0, {}};
        const auto& its = keys[h.name];
        h.published = blocks.CountFound(its);
        for (int32_t i = 0; i < h.published; ++i) {
          ASSERT_EQ(blocks.Find(its[i]), reference.Find(its[i]));
          h.blocks.push_back(*blocks.Find(its[i]));
          reference.Share(h.blocks.back());
        }
        blocks.Share(h.blocks);
        const int32_t more = std::min(below(6 - h.published), blocks.num_free());
        const std::vector<BlockId> ids = blocks.Allocate(more);
        ASSERT_NO_FATAL_FAILURE(reference.Allocate(ids));
        h.blocks.insert(h.blocks.end(), ids.begin(), ids.end());
        held.push_back(std::move(h));
      } else if (held.empty()) {
        continue;
      } else if (dice < 6) {
        Holder& h = held[below(static_cast<int32_t>(held.size()))];
        if (h.published == static_cast<int32_t>(h.blocks.size())) continue;
        blocks.Publish(h.blocks[h.published], keys[h.name][h.published]);
        reference.Publish(h.blocks[h.published], keys[h.name][h.published]);
        ++h.published;
      } else {
        std::swap(held[below(static_cast<int32_t>(held.size()))], held.back());
        if (below(10) == 0 && !held.back().blocks.empty()) {
          blocks.Retract(held.back().blocks[0]);
          reference.Retract(held.back().blocks[0]);
        }
        blocks.Release(held.back().blocks);
        reference.Release(held.back().blocks);
        held.pop_back();
      }
      ASSERT_EQ(blocks.num_used(), reference.num_used()) << "round " << round;
      ASSERT_EQ(blocks.num_free(), num_blocks - reference.num_used());
      ASSERT_EQ(blocks.num_cached(), reference.num_cached()) << "round " << round;
    }
    EXPECT_GT(blocks.num_evictions(), 0);
  }
}

TEST(KvBlocksDeathTest, RefusesADoubleFree) {
  KvBlocks blocks(2);
  const std::vector<BlockId> ids = blocks.Allocate(1);
  blocks.Release(ids);
  // No regular expressions: Oniguruma has a regcomp of its own, and under ThreadSanitizer gtest's
  // regexec is the C library's.
  EXPECT_DEATH(blocks.Release(ids), testing::HasSubstr("is not in use"));
  EXPECT_DEATH(blocks.Allocate(3), testing::HasSubstr("blocks asked 3, free 2"));
}

}  // namespace
}  // namespace pregate::scheduler

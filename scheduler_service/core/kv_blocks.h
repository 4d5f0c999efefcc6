// The KV blocks of one home rank: who uses them, and what those hold that nobody uses.
//
//   free ──Allocate──▶ used ──Release (the last)──▶ free        not published: its contents are lost
//                       │ ▲
//               Publish │ │ Share
//                       ▼ │
//                  used, in the cache ──Release (the last)──▶ unused, in the cache ──evicted──▶ used
//
// A block that is in the cache is full and is never written again, so any number of sequences may
// use it (docs/CONTRACTS.md, "Prefix cache").
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "common/base/ids.h"
#include "common/step/prefix_key.h"

namespace pregate::scheduler {

// Ids 0 .. num_blocks-1. Allocate gives those first that hold nothing, of them what was freed last,
// then evicts what was in use longest ago. Not thread-safe. Memory grows with the blocks that were
// ever in use, not with num_blocks.
class KvBlocks {
 public:
  explicit KvBlocks(int32_t num_blocks) : num_blocks_(num_blocks) {}

  int32_t num_blocks() const { return num_blocks_; }
  int32_t num_used() const { return num_used_; }                // however many use each
  int32_t num_free() const { return num_blocks_ - num_used_; }  // unused ones of the cache too
  int32_t num_users(BlockId id) const { return blocks_[id].users; }
  int32_t num_cached() const { return static_cast<int32_t>(cache_.size()); }
  int64_t num_evictions() const { return num_evictions_; }

  // Each has one user. REQUIRES: count <= num_free().
  std::vector<BlockId> Allocate(int32_t count);
  // Of a sequence's blocks in their order: one user less each. So that of a prefix the end is evicted
  // before what it stands on, the last counts as the one that was in use longest ago. REQUIRES: in use.
  void Release(absl::Span<const BlockId> ids);

  // Whoever looks for `key` finds the block, unless there is another like it. REQUIRES: in use; it
  // is full and is not written any more.
  void Publish(BlockId id, const PrefixKey& key);
  // Nobody finds it any more; who uses it keeps it.
  void Retract(BlockId id);
  std::optional<BlockId> Find(const PrefixKey& key) const;
  // How many of the first are there. Where the last of the first `from` is, those before it are taken
  // for there without a look, so the answer may be too high then.
  int32_t CountFound(absl::Span<const PrefixKey> keys, int32_t from = 0) const;
  // One user more each. REQUIRES: found.
  void Share(absl::Span<const BlockId> ids);

 private:
  static constexpr BlockId kNone = -1;
  struct Block {
    int32_t users = 0;
    bool cached = false;
    PrefixKey key;                          // if cached
    BlockId before = kNone, after = kNone;  // in the list of unused cached ones
  };

  BlockId TakeFree();
  void Link(BlockId id);
  void Unlink(BlockId id);

  int32_t num_blocks_;
  int32_t num_used_ = 0;
  int64_t num_evictions_ = 0;
  std::vector<Block> blocks_;                // by id, those given at least once
  std::vector<BlockId> freed_;               // unused, not cached
  BlockId oldest_ = kNone, newest_ = kNone;  // unused, cached
  absl::flat_hash_map<PrefixKey, BlockId> cache_;
};

}  // namespace pregate::scheduler

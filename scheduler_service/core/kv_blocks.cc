#include "scheduler_service/core/kv_blocks.h"

#include "common/base/status.h"

namespace pregate::scheduler {

std::vector<BlockId> KvBlocks::Allocate(int32_t count) {
  PREGATE_CHECK(count >= 0 && count <= num_free(), "blocks asked ", count, ", free ", num_free());
  std::vector<BlockId> ids;
  ids.reserve(count);
  for (int32_t i = 0; i < count; ++i) {
    ids.push_back(TakeFree());
    blocks_[ids.back()].users = 1;
  }
  num_used_ += count;
  return ids;
}

BlockId KvBlocks::TakeFree() {
  if (!freed_.empty()) {
    const BlockId id = freed_.back();
    freed_.pop_back();
    return id;
  }
  if (static_cast<int32_t>(blocks_.size()) < num_blocks_) {
    blocks_.emplace_back();
    return static_cast<BlockId>(blocks_.size()) - 1;
  }
  const BlockId id = oldest_;
  Unlink(id);
  cache_.erase(blocks_[id].key);
  blocks_[id].cached = false;
  ++num_evictions_;
  return id;
}

void KvBlocks::Release(absl::Span<const BlockId> ids) {
  for (auto it = ids.rbegin(); it != ids.rend(); ++it) {
    const BlockId id = *it;
    PREGATE_CHECK(id >= 0 && id < static_cast<BlockId>(blocks_.size()) && blocks_[id].users > 0,
                  "block ", id, " is not in use");
    if (--blocks_[id].users > 0) continue;
    --num_used_;
    if (blocks_[id].cached) {
      Link(id);
    } else {
      freed_.push_back(id);
    }
  }
}

void KvBlocks::Publish(BlockId id, const PrefixKey& key) {
  Block& block = blocks_[id];
  PREGATE_CHECK(block.users > 0 && !block.cached, "block ", id, " has ", block.users, " users");
  if (!cache_.emplace(key, id).second) return;
  block.cached = true;
  block.key = key;
}

void KvBlocks::Retract(BlockId id) {
  Block& block = blocks_[id];
  if (!block.cached) return;
  cache_.erase(block.key);
  block.cached = false;
  if (block.users > 0) return;
  Unlink(id);
  freed_.push_back(id);
}

std::optional<BlockId> KvBlocks::Find(const PrefixKey& key) const {
  const auto it = cache_.find(key);
  if (it == cache_.end()) return std::nullopt;
  return it->second;
}

int32_t KvBlocks::CountFound(absl::Span<const PrefixKey> keys, int32_t from) const {
  const auto size = static_cast<int32_t>(keys.size());
  int32_t count = from > 0 && from <= size && cache_.contains(keys[from - 1]) ? from : 0;
  while (count < size && cache_.contains(keys[count])) ++count;
  return count;
}

void KvBlocks::Share(absl::Span<const BlockId> ids) {
  for (const BlockId id : ids) {
    PREGATE_CHECK(blocks_[id].cached, "block ", id, " is not in the cache");
    if (blocks_[id].users++ > 0) continue;
    Unlink(id);
    ++num_used_;
  }
}

void KvBlocks::Link(BlockId id) {
  blocks_[id].before = newest_;
  blocks_[id].after = kNone;
  (newest_ == kNone ? oldest_ : blocks_[newest_].after) = id;
  newest_ = id;
}

void KvBlocks::Unlink(BlockId id) {
  const auto [before, after] = std::pair(blocks_[id].before, blocks_[id].after);
  (before == kNone ? oldest_ : blocks_[before].after) = after;
  (after == kNone ? newest_ : blocks_[after].before) = before;
}

}  // namespace pregate::scheduler

#include "scheduler_service/core/kv_blocks.h"

#include "common/base/status.h"

namespace pregate::scheduler {

std::vector<BlockId> BlockAllocator::Allocate(int32_t count) {
  PREGATE_CHECK(count >= 0 && count <= num_free(), "blocks asked ", count, ", free ", num_free());
  std::vector<BlockId> ids;
  ids.reserve(count);
  for (int32_t i = 0; i < count; ++i) {
    BlockId id = static_cast<BlockId>(used_.size());
    if (freed_.empty()) {
      used_.push_back(true);
    } else {
      id = freed_.back();
      freed_.pop_back();
      used_[id] = true;
    }
    ids.push_back(id);
  }
  num_used_ += count;
  return ids;
}

void BlockAllocator::Free(absl::Span<const BlockId> ids) {
  for (BlockId id : ids) {
    PREGATE_CHECK(id >= 0 && id < static_cast<BlockId>(used_.size()) && used_[id], "block ", id,
                  " is not in use");
    used_[id] = false;
    freed_.push_back(id);
  }
  num_used_ -= static_cast<int32_t>(ids.size());
}

}  // namespace pregate::scheduler

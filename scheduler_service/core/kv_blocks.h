// The KV blocks of one home rank: which ids are free, and who gave which back.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/base/ids.h"

namespace pregate::scheduler {

// Each block has one owner at a time. Ids 0 .. num_blocks-1; those freed last are given first. Not
// thread-safe. Memory grows with the blocks that were ever in use, not with num_blocks.
class BlockAllocator {
 public:
  explicit BlockAllocator(int32_t num_blocks) : num_blocks_(num_blocks) {}

  int32_t num_blocks() const { return num_blocks_; }
  int32_t num_used() const { return num_used_; }
  int32_t num_free() const { return num_blocks_ - num_used_; }

  // REQUIRES: count <= num_free().
  std::vector<BlockId> Allocate(int32_t count);
  // REQUIRES: every id is in use.
  void Free(absl::Span<const BlockId> ids);

 private:
  int32_t num_blocks_;
  int32_t num_used_ = 0;
  std::vector<BlockId> freed_;
  std::vector<bool> used_;  // by id, of the ids given at least once
};

}  // namespace pregate::scheduler

// Where one sequence's keys and values lie in a layer: elements [2: keys, values][num_blocks]
// [num_kv_heads][kBlockTokens][head_dim], so that a head's part of a block is contiguous.
#pragma once

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

inline constexpr int kBlockTokens = 16;

template <class T>
class KvBlocks {
 public:
  // Of the sequence that row r belongs to.
  __device__ KvBlocks(const PagedKv& kv, const Heads& heads, const PagedTokens& tokens, int r)
      : KvBlocks(kv, heads,
                 tokens.block_tables + int64_t{tokens.seq_slots[r]} * tokens.blocks_per_seq) {}
  // Of the sequence whose blocks are these.
  __device__ KvBlocks(const PagedKv& kv, const Heads& heads, const int32_t* block_table)
      : keys_(static_cast<T*>(kv.data)),
        values_offset_(int64_t{kv.num_blocks} * heads.num_kv_heads * kBlockTokens * heads.head_dim),
        table_(block_table),
        num_kv_heads_(heads.num_kv_heads),
        head_dim_(heads.head_dim) {}

  __device__ T* key(int kv_head, int position) const {
    const int64_t block = table_[position / kBlockTokens];
    return keys_ +
           ((block * num_kv_heads_ + kv_head) * kBlockTokens + position % kBlockTokens) * head_dim_;
  }
  __device__ T* value(int kv_head, int position) const {
    return key(kv_head, position) + values_offset_;
  }
  // Elements from a key to its value.
  __device__ int64_t values_offset() const { return values_offset_; }

 private:
  T* keys_;
  int64_t values_offset_;
  const int32_t* table_;
  int num_kv_heads_, head_dim_;
};

}  // namespace pregate::cuda

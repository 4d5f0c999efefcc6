// Rotary embedding, the paged KV store and causal attention over it.
#pragma once

#include <vector>

#include "common/device/cpu/kernels.h"
#include "common/device/cpu/thread_pool.h"
#include "common/device/device.h"

namespace pregate::cpu {

inline constexpr int kHeadDimMax = 1024;

size_t KvImageBytes(int num_blocks, int num_kv_heads, int head_dim, KvType type);

// scale * cos and sin of position * inv_freq, filled in when a position is first seen. The angle is
// a float32 product, as in Hugging Face's implementation.
class RopeTable {
 public:
  explicit RopeTable(const RopeShape& rope)
      : half_(rope.dims / 2), scale_(rope.scale), inv_freq_(rope.inv_freq, rope.inv_freq + half_) {}

  bool Holds(const RopeShape& rope) const;
  void Reserve(int64_t num_positions);
  // REQUIRES: position is below what was reserved.
  void Fill(int32_t position);
  // [half] cosines, then [half] sines. REQUIRES: Fill(position) came before.
  const float* Row(int32_t position) const {
    return values_.data() + int64_t{position} * 2 * half_;
  }

 private:
  int half_;
  float scale_;
  std::vector<float> inv_freq_;  // [half]
  std::vector<float> values_;    // [positions, 2 * half]
  std::vector<bool> filled_;     // [positions]
};

// One operation at a time.
class AttentionOps {
 public:
  explicit AttentionOps(ThreadPool& pool) : pool_(pool), scratch_(pool.threads()) {}

  // See DeviceOperations.
  void RotateAndStore(const TokenBatch& batch, const AttentionShape& shape, const HeadNorms& norms,
                      const float* qkv, const KvLayer& kv, float* q_out);
  void Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
                 const KvLayer& kv, float* act_out);

 private:
  // Consecutive positions of one sequence in consecutive rows. With one kv head it makes a tile.
  struct TokenRun {
    int first = 0, num_tokens = 0;
  };
  struct Call {
    const TokenBatch& batch;
    const AttentionShape& shape;
    const float* q;
    KvView kv;
    float* out;
    int group() const { return shape.num_heads / shape.num_kv_heads; }  // query heads of a kv head
  };
  struct Tile {
    QueryTile query;
    TokenRun run;
    int first_chunk = 0, end_chunk = 0;  // that hold keys which some row sees
  };
  struct Scratch {
    std::vector<const float*> queries;        // [tile rows]
    std::vector<int32_t> first_key, end_key;  // [tile rows]
    std::vector<float> total, part;           // [tile rows, StateFloats]
    std::vector<float> blocks;                // AttendScratchFloats
  };

  const RopeTable& PrepareRope(const TokenBatch& batch, const RopeShape& rope);
  void SplitIntoRuns(const TokenBatch& batch, int tokens_max);
  void Reserve(const Call& call, int tile_rows);
  Tile MakeTile(const Call& call, int64_t unit, Scratch& scratch) const;
  void AttendChunk(const Call& call, const Tile& tile, int chunk, float* states, Scratch& scratch);
  void MergeChunk(const Call& call, const Tile& tile, int chunk, const float* part, float* total);
  void Finish(const Call& call, const Tile& tile, const float* states);
  void AttendTile(const Call& call, int64_t unit, int thread);
  void AttendInChunks(const Call& call, int64_t num_units, int tile_rows, int chunks_max);

  ThreadPool& pool_;
  std::vector<RopeTable> ropes_;  // one a RopeShape (backbone, router)
  std::vector<TokenRun> runs_;
  std::vector<Scratch> scratch_;  // [threads]
  std::vector<float> parts_;      // [units, chunks, tile rows, StateFloats] of AttendInChunks
};

}  // namespace pregate::cpu

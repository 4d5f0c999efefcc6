#include "common/device/cpu/attention.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate::cpu {
namespace {

constexpr int kTileQueries = 32;  // queries that share one pass over the keys
constexpr int kChunkBlocks = 32;  // 512 keys: the softmax of a longer context is merged from chunks

template <class T>
void Grow(std::vector<T>& v, size_t n) {
  if (v.size() < n) v.resize(n);
}

}  // namespace

void AttentionOps::Attention(const TokenBatch& batch, const AttentionShape& shape, const float* q,
                             const KvLayer& kv, float* act_out) {
  const KvView view = {static_cast<const char*>(kv.data), kv.type, kv.num_kv_heads, shape.head_dim};
  const Call call = {batch, shape, q, view, act_out};
  const int tile_rows = std::max(kTileQueries, call.group());
  Reserve(call, tile_rows);
  SplitIntoRuns(batch, tile_rows / call.group());
  const int64_t num_units = static_cast<int64_t>(runs_.size()) * shape.num_kv_heads;
  const int chunks_max = static_cast<int>(CeilDiv(batch.blocks_per_seq, kChunkBlocks));
  if (num_units < 2 * pool_.threads() && pool_.threads() > 1 && chunks_max > 1) {
    return AttendInChunks(call, num_units, tile_rows, chunks_max);
  }
  pool_.Run(num_units, [&](int64_t unit, int thread) { AttendTile(call, unit, thread); });
}

void AttentionOps::SplitIntoRuns(const TokenBatch& batch, int tokens_max) {
  runs_.clear();
  for (int r = 0; r < *batch.rows.num; ++r) {
    const bool follows = r > 0 && batch.seq_slots[r] == batch.seq_slots[r - 1] &&
                         batch.positions[r] == batch.positions[r - 1] + 1;
    if (follows && runs_.back().num_tokens < tokens_max) {
      ++runs_.back().num_tokens;
    } else {
      runs_.push_back({r, 1});
    }
  }
}

void AttentionOps::Reserve(const Call& call, int tile_rows) {
  const int64_t padded = call.kv.padded_dim();
  const int64_t states = tile_rows * StateFloats(padded);
  if (runs_.capacity() < static_cast<size_t>(call.batch.rows.max))
    runs_.reserve(call.batch.rows.max);
  for (Scratch& s : scratch_) {
    Grow(s.queries, tile_rows);
    Grow(s.num_keys, tile_rows);
    Grow(s.total, states);
    Grow(s.part, states);
    Grow(s.blocks, AttendScratchFloats(tile_rows, call.kv));
  }
  const int64_t chunks = CeilDiv(call.batch.blocks_per_seq, kChunkBlocks);
  if (pool_.threads() > 1 && chunks > 1) Grow(parts_, 2 * pool_.threads() * chunks * states);
}

AttentionOps::Tile AttentionOps::MakeTile(const Call& call, int64_t unit, Scratch& scratch) const {
  const TokenBatch& batch = call.batch;
  const TokenRun run = runs_[unit / call.shape.num_kv_heads];
  const int kv_head = static_cast<int>(unit % call.shape.num_kv_heads);
  const int group = call.group();
  for (int i = 0; i < run.num_tokens * group; ++i) {
    const int64_t row = run.first + i / group;
    const int64_t head = kv_head * group + i % group;
    scratch.queries[i] = call.q + (row * call.shape.num_heads + head) * call.shape.head_dim;
    scratch.num_keys[i] = batch.positions[row] + 1;
  }
  const int num_blocks =
      static_cast<int>(CeilDiv(scratch.num_keys[run.num_tokens * group - 1], kKvBlockTokens));
  PREGATE_CHECK(num_blocks <= batch.blocks_per_seq, "blocks ", num_blocks);
  return {{scratch.queries.data(), scratch.num_keys.data(), run.num_tokens * group,
           batch.block_tables + int64_t{batch.seq_slots[run.first]} * batch.blocks_per_seq, kv_head,
           call.shape.scale},
          run,
          static_cast<int>(CeilDiv(num_blocks, kChunkBlocks))};
}

void AttentionOps::AttendChunk(const Call& call, const Tile& tile, int chunk, float* states,
                               Scratch& scratch) {
  const int num_blocks =
      static_cast<int>(CeilDiv(tile.query.num_keys[tile.query.num_rows - 1], kKvBlockTokens));
  AttendBlocks(call.kv, tile.query, chunk * kChunkBlocks,
               std::min((chunk + 1) * kChunkBlocks, num_blocks), states, scratch.blocks.data());
}

// Only rows that have keys in the chunk: what is merged depends on a query's own position alone.
void AttentionOps::MergeChunk(const Call& call, const Tile& tile, int chunk, const float* part,
                              float* total) {
  const int64_t padded = call.kv.padded_dim();
  for (int r = 0; r < tile.query.num_rows; ++r) {
    if (tile.query.num_keys[r] <= chunk * kChunkBlocks * kKvBlockTokens) continue;
    MergeState(part + r * StateFloats(padded), padded, total + r * StateFloats(padded));
  }
}

void AttentionOps::Finish(const Call& call, const Tile& tile, const float* states) {
  const int group = call.group(), d = call.shape.head_dim;
  for (int i = 0; i < tile.query.num_rows; ++i) {
    const int64_t row = tile.run.first + i / group;
    const int64_t head = tile.query.kv_head * group + i % group;
    FinishState(states + i * StateFloats(call.kv.padded_dim()), d, call.shape.act,
                call.out + (row * call.shape.num_heads + head) * d);
  }
}

void AttentionOps::AttendTile(const Call& call, int64_t unit, int thread) {
  Scratch& scratch = scratch_[thread];
  const Tile tile = MakeTile(call, unit, scratch);
  AttendChunk(call, tile, 0, scratch.total.data(), scratch);
  for (int chunk = 1; chunk < tile.num_chunks; ++chunk) {
    AttendChunk(call, tile, chunk, scratch.part.data(), scratch);
    MergeChunk(call, tile, chunk, scratch.part.data(), scratch.total.data());
  }
  Finish(call, tile, scratch.total.data());
}

// The same sums as AttendTile's, for batches with too few tiles to keep the threads busy.
void AttentionOps::AttendInChunks(const Call& call, int64_t num_units, int tile_rows,
                                  int chunks_max) {
  const int64_t states = tile_rows * StateFloats(call.kv.padded_dim());
  const auto part = [&](int64_t unit, int chunk) {
    return parts_.data() + (unit * chunks_max + chunk) * states;
  };
  pool_.Run(num_units * chunks_max, [&](int64_t task, int thread) {
    const int64_t unit = task / chunks_max;
    const int chunk = static_cast<int>(task % chunks_max);
    const Tile tile = MakeTile(call, unit, scratch_[thread]);
    if (chunk < tile.num_chunks) {
      AttendChunk(call, tile, chunk, part(unit, chunk), scratch_[thread]);
    }
  });
  pool_.Run(num_units, [&](int64_t unit, int thread) {
    const Tile tile = MakeTile(call, unit, scratch_[thread]);
    for (int chunk = 1; chunk < tile.num_chunks; ++chunk) {
      MergeChunk(call, tile, chunk, part(unit, chunk), part(unit, 0));
    }
    Finish(call, tile, part(unit, 0));
  });
}

}  // namespace pregate::cpu

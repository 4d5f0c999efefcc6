#include "common/device/cpu/attention.h"

#include <algorithm>

#include "common/base/status.h"

namespace pregate::cpu {
namespace {

constexpr int kTileQueries = 32;  // queries that share one pass over the keys
constexpr int kChunkKeys = 512;   // the softmax of a longer context is merged from chunks
constexpr int kSpanKeys = kSpanBlocks * kKvBlockTokens;
static_assert(kChunkKeys % kSpanKeys == 0);

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
  const int chunks_max =
      static_cast<int>(CeilDiv(batch.blocks_per_seq, kChunkKeys / kKvBlockTokens));
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
    Grow(s.first_key, tile_rows);
    Grow(s.end_key, tile_rows);
    Grow(s.total, states);
    Grow(s.part, states);
    Grow(s.blocks, AttendScratchFloats(tile_rows, call.kv));
  }
  const int64_t chunks = CeilDiv(call.batch.blocks_per_seq, kChunkKeys / kKvBlockTokens);
  if (pool_.threads() > 1 && chunks > 1) Grow(parts_, 2 * pool_.threads() * chunks * states);
}

AttentionOps::Tile AttentionOps::MakeTile(const Call& call, int64_t unit, Scratch& scratch) const {
  const TokenBatch& batch = call.batch;
  const TokenRun run = runs_[unit / call.shape.num_kv_heads];
  const int kv_head = static_cast<int>(unit % call.shape.num_kv_heads);
  const int group = call.group(), window = call.shape.window;
  for (int i = 0; i < run.num_tokens * group; ++i) {
    const int64_t row = run.first + i / group;
    const int64_t head = kv_head * group + i % group;
    scratch.queries[i] = call.q + (row * call.shape.num_heads + head) * call.shape.head_dim;
    scratch.end_key[i] = batch.positions[row] + 1;
    scratch.first_key[i] = window > 0 ? std::max(0, scratch.end_key[i] - window) : 0;
  }
  const QueryTile query = {
      .queries = scratch.queries.data(),
      .first_key = scratch.first_key.data(),
      .end_key = scratch.end_key.data(),
      .num_rows = run.num_tokens * group,
      .table = batch.block_tables + int64_t{batch.seq_slots[run.first]} * batch.blocks_per_seq,
      .kv_head = kv_head,
      .scale = call.shape.scale};
  const int end_key = query.end_key[query.num_rows - 1];
  PREGATE_CHECK(CeilDiv(end_key, kKvBlockTokens) <= batch.blocks_per_seq, "keys ", end_key);
  return {query, run, query.first_key[0] / kChunkKeys,
          static_cast<int>(CeilDiv(end_key, kChunkKeys))};
}

void AttentionOps::AttendChunk(const Call& call, const Tile& tile, int chunk, float* states,
                               Scratch& scratch) {
  const QueryTile& query = tile.query;
  const int begin = std::max(chunk * kChunkKeys, query.first_key[0]);
  const int end = std::min((chunk + 1) * kChunkKeys, query.end_key[query.num_rows - 1]);
  // Spans of blocks begin at the same positions for every row, whichever rows stand beside it.
  AttendBlocks(call.kv, query, begin / kSpanKeys * kSpanBlocks,
               static_cast<int>(CeilDiv(end, kKvBlockTokens)), states, scratch.blocks.data());
}

// Only rows that see keys of the chunk: what is merged depends on a query's own position alone.
void AttentionOps::MergeChunk(const Call& call, const Tile& tile, int chunk, const float* part,
                              float* total) {
  const int64_t padded = call.kv.padded_dim();
  for (int r = 0; r < tile.query.num_rows; ++r) {
    if (tile.query.end_key[r] <= chunk * kChunkKeys ||
        tile.query.first_key[r] >= (chunk + 1) * kChunkKeys) {
      continue;
    }
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
  AttendChunk(call, tile, tile.first_chunk, scratch.total.data(), scratch);
  for (int chunk = tile.first_chunk + 1; chunk < tile.end_chunk; ++chunk) {
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
    if (chunk >= tile.first_chunk && chunk < tile.end_chunk) {
      AttendChunk(call, tile, chunk, part(unit, chunk), scratch_[thread]);
    }
  });
  pool_.Run(num_units, [&](int64_t unit, int thread) {
    const Tile tile = MakeTile(call, unit, scratch_[thread]);
    float* total = part(unit, tile.first_chunk);
    for (int chunk = tile.first_chunk + 1; chunk < tile.end_chunk; ++chunk) {
      MergeChunk(call, tile, chunk, part(unit, chunk), total);
    }
    Finish(call, tile, total);
  });
}

}  // namespace pregate::cpu

// Attention of few rows with the tiles of each row spread over the card. An item is one tile of one
// row and key head, with all query heads that share it (up to 8). A warp runs it from a ring of slots
// (stream_ring.cuh), a block of 16 keys or values each, and leaves the tile's sums in scratch. When all
// of a row and key head are there they are added up in order.
#pragma once

#include "common/device/cuda/attention_tile.cuh"
#include "common/device/cuda/publish.cuh"
#include "common/device/cuda/stream_ring.cuh"
#include "common/device/cuda/tile_sums.cuh"

namespace pregate::cuda {

inline constexpr int kGroupHeadsMax = 8;  // query heads of a key head

// The step's rows and their tiles, in shared memory.
struct SplitRows {
  int num_rows;
  int position[kSplitRowsMax], first_tile[kSplitRowsMax], tiles[kSplitRowsMax];
  // The first position of the row's sequence that this kernel stores: what the stream read of it and
  // of those after it may be older. Where it stores none, the one after the row's own.
  int first_stored[kSplitRowsMax];
  int before[kSplitRowsMax + 1];  // tiles of the rows before
  const int32_t* block_table[kSplitRowsMax];

  // By one warp; the block synchronizes afterwards. `stores`: the rows' own keys and values are stored
  // by this kernel, not before it.
  __device__ void Find(const AttentionProblem& p, bool stores) {
    const int lane = threadIdx.x % 32, num = *p.tokens.rows.num;
    int tiles_so_far = 0;
    if (lane < num) {
      position[lane] = p.tokens.positions[lane];
      block_table[lane] =
          p.tokens.block_tables + int64_t{p.tokens.seq_slots[lane]} * p.tokens.blocks_per_seq;
      first_tile[lane] = p.FirstKey(position[lane]) / kTileKeys;
      tiles[lane] = position[lane] / kTileKeys + 1 - first_tile[lane];
      tiles_so_far = tiles[lane];
    }
    for (int offset = 1; offset < 32; offset *= 2) {
      const int of_others = __shfl_up_sync(~0u, tiles_so_far, offset);
      if (lane >= offset) tiles_so_far += of_others;
    }
    if (lane == 0) num_rows = num, before[0] = 0;
    if (lane < num) before[lane + 1] = tiles_so_far;
    __syncwarp();
    if (lane >= num) return;
    int first = position[lane] + (stores ? 0 : 1);
    for (int other = 0; stores && other < num; ++other) {
      if (block_table[other] == block_table[lane]) first = min(first, position[other]);
    }
    first_stored[lane] = first;
  }
  __device__ int num_items(const Heads& heads) const {
    return before[num_rows] * heads.num_kv_heads;
  }
};

// Item i: those of a row are numbered by tile, then key head, as keys and values lie.
struct SplitItem {
  int row, kv_head, tile;  // tile: from the row's first one on
  int first_key, num_blocks;

  __device__ SplitItem(const SplitRows& rows, const Heads& heads, int i) : row(0) {
    while (i >= rows.before[row + 1] * heads.num_kv_heads) ++row;
    i -= rows.before[row] * heads.num_kv_heads;
    kv_head = i % heads.num_kv_heads;
    tile = i / heads.num_kv_heads;
    first_key = (rows.first_tile[row] + tile) * kTileKeys;
    num_blocks =
        min(kTileKeys, rows.position[row] + 1 - first_key + kBlockTokens - 1) / kBlockTokens;
  }
};

// An item's slots: its blocks of keys, then those of values. The same in all lanes.
template <int kDims>
struct TileStream {
  const Bf16* head = nullptr;              // the key head's part of block 0
  const int32_t* table = nullptr;          // at the item's first block
  int64_t block_elements = 0, values = 0;  // from block to block, from keys to values
  int num_blocks = 0, issued = 0;

  __device__ bool done() const { return issued == 2 * num_blocks; }
  __device__ void Begin(const SplitRows& rows, const SplitItem& item, const PagedKv& kv,
                        const Heads& heads) {
    const int block = kBlockTokens * heads.head_dim;
    head = static_cast<const Bf16*>(kv.data) + int64_t{item.kv_head} * block;
    table = rows.block_table[item.row] + item.first_key / kBlockTokens;
    block_elements = int64_t{heads.num_kv_heads} * block;
    values = kv.num_blocks * block_elements;
    num_blocks = item.num_blocks;
    issued = 0;
  }
  __device__ void Issue(uint32_t slot, int head_dim) {
    constexpr int kChunks = kDims / 8;
    const bool is_value = issued >= num_blocks;
    const int lane = threadIdx.x % 32, block = table[is_value ? issued - num_blocks : issued];
    const Bf16* rows = head + block * block_elements + (is_value ? values : 0);
#pragma unroll
    for (int i = 0; i < kBlockTokens * kChunks / 32; ++i) {
      const int row = (i * 32 + lane) / kChunks, chunk = (i * 32 + lane) % kChunks;
      const int at = TileLayout<kDims>::At(row, chunk);
      const bool valid = chunk * 8 < head_dim;
      CopyAsync16(slot + at * 16, valid ? rows + row * head_dim + chunk * 8 : rows, valid);
    }
    ++issued;
  }
};

template <int kDims>
class SplitAttentionWarp {
  static_assert(kBlockTokens * kDims * 2 <= kSlotBytes, "a block of keys");
  static_assert(kGroupHeadsMax * kDims * 4 <= kSlotBytes, "a tile's sums, on their way out");

 public:
  // `kv` stands for p's.
  __device__ SplitAttentionWarp(const AttentionProblem& p, const PagedKv& kv, const SplitRows& rows,
                                const TileSums& sums)
      : p_(p),
        kv_(kv),
        rows_(rows),
        sums_(sums),
        group_(p.heads.num_heads / p.heads.num_kv_heads) {}

  // The items first, first + step, ..., whose slots come next in the ring. Whoever ends the last one of
  // a row and key head adds its tiles up, after its other items, since a warp that is late with one
  // item would be the last one for the next as well.
  template <class Ring>
  __device__ void RunAll(Ring& ring, int first, int step, int items, Publisher& publisher) const {
    int index = first;
#pragma unroll 1
    while (index < items) {
      uint64_t last = 0;
      const int begin = index;
#pragma unroll 1
      for (int i = 0; i < 64 && index < items; ++i, index += step) {
        if (IsLast(Run(ring, index, publisher), publisher)) last |= uint64_t{1} << i;
      }
#pragma unroll 1
      for (; last != 0; last &= last - 1) {
        const SplitItem item(rows_, p_.heads, begin + (__ffsll(last) - 1) * step);
#pragma unroll 1
        for (int sum = 0; sum < group_ * kParts; ++sum) {
          AddTiles(item.row, item.kv_head * group_ + sum / kParts, sum % kParts * 32, publisher);
        }
      }
    }
  }
  // The same where all warps of the grid run at once: sums are spread over them as items are, and wait
  // for their tiles. `calls`: how often it was called since the counts of arrivals were 0, this time
  // included. Returns the first number from `first` in steps that is not below `items`.
  template <class Ring>
  __device__ int RunAllAtOnce(Ring& ring, int first, int step, int items, int calls,
                              Publisher& publisher) const {
    int index = first;
#pragma unroll 1
    for (; index < items; index += step) {
      int* arrived = Run(ring, index, publisher);
      if (lane() == 0) {
        asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(arrived) : "memory");
      }
    }
    const int sums = rows_.num_rows * p_.heads.num_heads * kParts;
#pragma unroll 1
    for (int sum = index - items; sum < sums; sum += step) {
      const int head = sum / kParts % p_.heads.num_heads, row = sum / kParts / p_.heads.num_heads;
      const int* arrived = sums_.arrived + row * p_.heads.num_kv_heads + head / group_;
      const int all = rows_.tiles[row] * calls;
      AwaitWithin(ring.deadline(), WaitFor::kTiles, [&] {
        int seen;
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrived) : "memory");
        return seen >= all;
      });
      __syncwarp();
      AddTiles(row, head, sum % kParts * 32, publisher);
    }
    return index;
  }
  // After the last RunAllAtOnce, by the first `threads` of one block, when all have come back from it.
  __device__ void ForgetArrivals(int threads, Publisher& publisher) const {
    for (int i = threadIdx.x; i < rows_.num_rows * p_.heads.num_kv_heads; i += threads) {
      publisher.Put(reinterpret_cast<uint32_t*>(sums_.arrived + i), 0);
    }
  }

 private:
  static constexpr int kParts = kDims / 32;  // of a head's channels, one sum each

  __device__ static int lane() { return threadIdx.x % 32; }
  // Leaves the item's sums in scratch, and says where its arrival counts.
  template <class Ring>
  __device__ int* Run(Ring& ring, int index, Publisher& publisher) const {
    const SplitItem item(rows_, p_.heads, index);
    Attend(ring, item, publisher);
    publisher.Await();
    __syncwarp();
    return sums_.arrived + item.row * p_.heads.num_kv_heads + item.kv_head;
  }
  __device__ bool IsLast(int* arrived, Publisher& publisher) const {
    const int row = static_cast<int>(arrived - sums_.arrived) / p_.heads.num_kv_heads;
    int before = 0;
    if (lane() == 0) before = atomicAdd(arrived, 1);
    if (__shfl_sync(~0u, before, 0) + 1 < rows_.tiles[row]) return false;
    if (lane() == 0) publisher.Put(reinterpret_cast<uint32_t*>(arrived), 0);
    return true;
  }
  // Counted over the tiles that the rows see.
  __device__ int64_t PartOf(int row, int head, int tile) const {
    return int64_t{rows_.before[row]} * p_.heads.num_heads + int64_t{head} * rows_.tiles[row] +
           tile;
  }

  template <class Ring>
  __device__ void Attend(Ring& ring, const SplitItem& item, Publisher& publisher) const {
    constexpr int kBlocks = kTileKeys / kBlockTokens;
    const int g = lane() / 4, t = lane() % 4;
    const int head_dim = p_.heads.head_dim, position = rows_.position[item.row];
    const int first_seen = p_.FirstKey(position);
    const int head = item.kv_head * group_ + g;
    const bool is_head = g < group_;
    float2 loaded[kDims / 16][2] = {};
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      const int channel = j * 8 + t * 2;
      if (is_head && channel < head_dim) {
        loaded[j / 2][j % 2] = __ldcg(reinterpret_cast<const float2*>(
            p_.q + (int64_t{item.row} * p_.heads.num_heads + head) * head_dim + channel));
      }
    }
    uint32_t q[kDims / 16][2];
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) q[j / 2][j % 2] = RoundPair(loaded[j / 2][j % 2]);

    // Both loops over blocks stay loops, for the ring's sake: a block takes the last places of x, and
    // the first weights, while the others move up.
    Accumulator x[kTileKeys / 8];
#pragma unroll 1
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int n = 0; n + 2 < kTileKeys / 8; ++n) x[n] = x[n + 2];
      Accumulator(&mine)[2] = *reinterpret_cast<Accumulator(*)[2]>(x + kTileKeys / 8 - 2);
      mine[0] = mine[1] = Accumulator();
      if (b >= item.num_blocks) continue;
      const uint32_t slot = ring.Await();
      Renew<false>(slot, item, item.first_key + b * kBlockTokens, first_seen);
      uint32_t keys[kDims / 16][4];
#pragma unroll
      for (int j = 0; j < kDims / 16; ++j) {
        LoadMatrices(slot + TileLane<kDims>::Keys(0, j) * 16, keys[j]);
      }
#pragma unroll
      for (int j = 0; j < kDims / 16; ++j) {
        Mma(mine[0], q[j][0], 0, q[j][1], 0, keys[j][0], keys[j][1]);
        Mma(mine[1], q[j][0], 0, q[j][1], 0, keys[j][2], keys[j][3]);
      }
      ring.Release();
    }
    float top[1], sum[1];
    TileSoftmax<1>(
        __fmul_rn(p_.scale, kLog2E),
        [&](int, int k) {
          return item.first_key + k <= position && item.first_key + k >= first_seen;
        },
        x, top, sum);
    TileWeights weights[kBlocks] = {{x[0], x[1]}, {x[2], x[3]}, {x[4], x[5]}, {x[6], x[7]}};
    Accumulator out[kDims / 8];
    uint32_t slot = 0;
#pragma unroll 1
    for (int b = 0; b < item.num_blocks; ++b) {
      if (b > 0) ring.Release();
      slot = ring.Await();
      Renew<true>(slot, item, item.first_key + b * kBlockTokens, first_seen);
      uint32_t values[kDims / 16][4];
#pragma unroll
      for (int c = 0; c < kDims / 16; ++c) {
        LoadTransposed(slot + TileLane<kDims>::Values(0, c) * 16, values[c]);
      }
      AddValues<kDims / 8>(out, weights[0], values);
#pragma unroll
      for (int i = 0; i + 1 < kBlocks; ++i) weights[i] = weights[i + 1];
    }
    const int64_t part = PartOf(item.row, head, item.tile);
    if (is_head && t == 0) publisher.Put(sums_.tops + part, float2{top[0], sum[0]});
    // By way of the last slot, so that every lane stores 16 bytes at a time.
    __syncwarp();
    if (is_head) {
#pragma unroll
      for (int c = 0; c < kDims / 8; ++c) {
        asm volatile(
            "st.shared.v2.f32 [%0], {%1, %2};" ::"r"(slot + g * kDims * 4 + c * 32 + t * 8),
            "f"(out[c].c[0]), "f"(out[c].c[1])
            : "memory");
      }
    }
    __syncwarp();
    const int quarter = head_dim / 4;
#pragma unroll 1
    for (int i = lane(); i < group_ * quarter; i += 32) {
      const int h = i / quarter, channel = i % quarter * 4;
      float* to = sums_.out + PartOf(item.row, item.kv_head * group_ + h, item.tile) * head_dim;
      publisher.Put(reinterpret_cast<uint4*>(to + channel),
                    LoadShared(slot + (h * kDims + channel) * 4));
    }
    ring.Release();
  }

  // The slot holds what lay at positions first_key .. + 15 when it was read. Those that this kernel
  // stores are read again. Those after the row's own become zeros, and values before the first that it
  // sees too, since weight 0 times whatever lies there need not be 0.
  template <bool kValues>
  __device__ void Renew(uint32_t slot, const SplitItem& item, int first_key, int first_seen) const {
    constexpr int kChunks = kDims / 8;
    const int limit = rows_.first_stored[item.row], position = rows_.position[item.row];
    const int from_key = kValues ? first_seen : 0;
    if (first_key + kBlockTokens <= limit && first_key >= from_key) return;
    const KvBlocks<Bf16> blocks(kv_, p_.heads, rows_.block_table[item.row]);
#pragma unroll 1
    for (int row = 0; row < kBlockTokens; ++row) {
      const int key = first_key + row;
      if (key < limit && key >= from_key) continue;
      if (lane() < kChunks) {
        uint4 v = {0, 0, 0, 0};
        if (key <= position && key >= from_key && lane() * 8 < p_.heads.head_dim) {
          const Bf16* from =
              kValues ? blocks.value(item.kv_head, key) : blocks.key(item.kv_head, key);
          v = __ldcg(reinterpret_cast<const uint4*>(from) + lane());
        }
        StoreShared(slot + TileLayout<kDims>::At(row, lane()) * 16, v);
      }
    }
    __syncwarp();
  }

  // Of 32 channels, one a lane. Each trip to L2 takes as long as some tiles of the stream, so loads go out
  // before they are needed: 32 tiles' while those before are added up.
  __device__ void AddTiles(int row, int head, int first_channel, Publisher& publisher) const {
    constexpr int kAtOnce = 32;
    const int head_dim = p_.heads.head_dim, tiles = rows_.tiles[row];
    const int channel = first_channel + lane();
    const bool is_channel = channel < head_dim;
    const float2* tops = sums_.tops + PartOf(row, head, 0);
    const float* parts = sums_.out + PartOf(row, head, 0) * head_dim + (is_channel ? channel : 0);
    // Lane i has the i-th tile's top and sum of weights.
    float part[kAtOnce];
    float2 mine;
    const auto load = [&](int first) {
      mine = __ldcg(tops + min(first + lane(), tiles - 1));
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (i % 8 == 0 && first + i >= tiles) break;
        part[i] = __ldcg(parts + int64_t{min(first + i, tiles - 1)} * head_dim);
      }
    };
    load(0);
    float top = mine.x;
#pragma unroll 8
    for (int tile = kAtOnce + lane(); tile < tiles; tile += 32) {
      top = fmaxf(top, __ldcg(tops + tile).x);
    }
    top = WarpReduce(top, Largest());
    float sum = 0, out = 0;
#pragma unroll 1
    for (int first = 0; first < tiles; first += kAtOnce) {
      const float gain = PowerOfTwo(mine.x - top), weights = mine.y;
      float now[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) now[i] = part[i];
      if (first + kAtOnce < tiles) load(first + kAtOnce);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (first + i >= tiles) break;
        const float of_tile = __shfl_sync(~0u, gain, i);
        sum = __fmaf_rn(__shfl_sync(~0u, weights, i), of_tile, sum);
        out = __fmaf_rn(now[i], of_tile, out);
      }
    }
    out = __fdiv_rn(out, sum);
    const float next = __shfl_down_sync(~0u, out, 1);
    if (lane() % 2 == 1 || !is_channel) return;
    const int64_t at = (int64_t{row} * p_.heads.num_heads + head) * head_dim + channel;
    if (p_.out_bf16) {
      publisher.PutPair(static_cast<Bf16*>(p_.out) + at, out, next);
    } else {
      publisher.PutPair(static_cast<float*>(p_.out) + at, out, next);
    }
  }

  const AttentionProblem& p_;
  const PagedKv kv_;
  const SplitRows& rows_;
  const TileSums& sums_;
  const int group_;
};

}  // namespace pregate::cuda

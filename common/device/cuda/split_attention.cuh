// Attention of few rows with the tiles of each row spread over the card. An item is one tile of one
// row and key head, with all query heads that share it (up to 8); a warp runs it and leaves the
// tile's sums in scratch; whoever ends the last item of a row and key head merges them in order.
#pragma once

#include "common/device/cuda/attention_tile.cuh"

namespace pregate::cuda {

inline constexpr int kSplitRowsMax = 32;
inline constexpr int kGroupHeadsMax = 8;  // query heads of a key head

// Where the sums of tiles lie. Part i is of the i-th (row, query head, tile), counted over the tiles
// that the rows see.
struct TileSums {
  float* out;    // [parts, head_dim] weighted sums of values
  float2* tops;  // [parts] top, sum of weights
  int* arrived;  // [rows, kv heads] items that have ended; 0 between two calls

  __host__ __device__ static int TilesMax(const PagedTokens& tokens) {
    return tokens.blocks_per_seq * kBlockTokens / kTileKeys + 1;
  }
  static size_t ArrivedBytes(const Heads& heads) {
    return (size_t(kSplitRowsMax) * heads.num_kv_heads * sizeof(int) + 255) / 256 * 256;
  }
  static size_t Parts(const PagedTokens& tokens, const Heads& heads) {
    return size_t(tokens.rows.max) * heads.num_heads * TilesMax(tokens);
  }
  static size_t Bytes(const PagedTokens& tokens, const Heads& heads) {
    return ArrivedBytes(heads) +
           Parts(tokens, heads) * (sizeof(float2) + heads.head_dim * sizeof(float));
  }
  // `scratch` holds Bytes(), and began as zeros.
  static TileSums At(void* scratch, const PagedTokens& tokens, const Heads& heads) {
    char* at = static_cast<char*>(scratch);
    TileSums sums;
    sums.arrived = reinterpret_cast<int*>(at);
    sums.out = reinterpret_cast<float*>(at + ArrivedBytes(heads));
    sums.tops = reinterpret_cast<float2*>(sums.out + Parts(tokens, heads) * heads.head_dim);
    return sums;
  }
};

// The step's rows and their tiles, in shared memory.
struct SplitRows {
  int num_rows;
  int first_tile[kSplitRowsMax], tiles[kSplitRowsMax];
  int before[kSplitRowsMax + 1];  // tiles of the rows before

  // By one thread; the block synchronizes afterwards.
  __device__ void Find(const AttentionProblem& p) {
    num_rows = *p.tokens.rows.num;
    before[0] = 0;
    for (int r = 0; r < num_rows; ++r) {
      const int position = p.tokens.positions[r];
      first_tile[r] = p.FirstKey(position) / kTileKeys;
      tiles[r] = position / kTileKeys + 1 - first_tile[r];
      before[r + 1] = before[r] + tiles[r];
    }
  }
  __device__ int num_items(const Heads& heads) const {
    return before[num_rows] * heads.num_kv_heads;
  }
};

// Item i: tiles of a row are numbered by key head, then tile.
struct SplitItem {
  int row, kv_head, tile;  // tile: from the row's first one on

  __device__ SplitItem(const SplitRows& rows, const Heads& heads, int i) : row(0) {
    while (i >= rows.before[row + 1] * heads.num_kv_heads) ++row;
    i -= rows.before[row] * heads.num_kv_heads;
    kv_head = i / rows.tiles[row];
    tile = i % rows.tiles[row];
  }
};

template <int kDims>
class SplitAttentionWarp {
 public:
  // `kv` stands for p's.
  __device__ SplitAttentionWarp(const AttentionProblem& p, const PagedKv& kv, const SplitRows& rows,
                                const TileSums& sums)
      : p_(p),
        kv_(kv),
        rows_(rows),
        sums_(sums),
        group_(p.heads.num_heads / p.heads.num_kv_heads) {}

  // Starts the item's way from memory into the L2 cache.
  __device__ void Prefetch(int index) const {
    const SplitItem item(rows_, p_.heads, index);
    const int lane = threadIdx.x % 32;
    if (lane >= 2 * kTileKeys / kBlockTokens) return;
    const KvBlocks<Bf16> blocks(kv_, p_.heads, p_.tokens, item.row);
    const int position = (rows_.first_tile[item.row] + item.tile) * kTileKeys +
                         lane % (kTileKeys / kBlockTokens) * kBlockTokens;
    if (position > p_.tokens.positions[item.row]) return;
    const Bf16* from = lane < kTileKeys / kBlockTokens ? blocks.key(item.kv_head, position)
                                                       : blocks.value(item.kv_head, position);
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from),
                 "r"(kBlockTokens * p_.heads.head_dim * 2)
                 : "memory");
  }

  __device__ void Run(int index) const {
    const SplitItem item(rows_, p_.heads, index);
    Attend(item);
    __threadfence();
    __syncwarp();
    int* arrived = sums_.arrived + item.row * p_.heads.num_kv_heads + item.kv_head;
    int before = 0;
    if (threadIdx.x % 32 == 0) before = atomicAdd(arrived, 1);
    before = __shfl_sync(~0u, before, 0);
    if (before + 1 < rows_.tiles[item.row]) return;
    __threadfence();
    if (threadIdx.x % 32 == 0) *arrived = 0;
    for (int head = 0; head < group_; ++head) Merge(item.row, item.kv_head * group_ + head);
  }

 private:
  __device__ int64_t PartOf(int row, int head, int tile) const {
    return int64_t{rows_.before[row]} * p_.heads.num_heads + int64_t{head} * rows_.tiles[row] +
           tile;
  }

  // Lane (g, t) holds channels 32j + 8t .. + 7 of keys 8n + g; those beyond the row's position are
  // zeros.
  __device__ void Load(const KvBlocks<Bf16>& blocks, bool values, int kv_head, int first_key,
                       int position, uint4 (&out)[kTileKeys / 8][kDims / 32]) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; ++n) {
      const int key = first_key + n * 8 + g;
      const bool there = key <= position;
      const Bf16* row = !there   ? nullptr
                        : values ? blocks.value(kv_head, key)
                                 : blocks.key(kv_head, key);
#pragma unroll
      for (int j = 0; j < kDims / 32; ++j) {
        const int channel = j * 32 + t * 8;
        out[n][j] = there && channel < p_.heads.head_dim
                        ? __ldcg(reinterpret_cast<const uint4*>(row + channel))
                        : uint4{0, 0, 0, 0};
      }
    }
  }

  __device__ void Attend(const SplitItem& item) const {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int head_dim = p_.heads.head_dim, position = p_.tokens.positions[item.row];
    const int first_key = (rows_.first_tile[item.row] + item.tile) * kTileKeys;
    const int first_seen = p_.FirstKey(position);
    const int head = item.kv_head * group_ + g;
    const bool is_head = g < group_;
    const KvBlocks<Bf16> blocks(kv_, p_.heads, p_.tokens, item.row);

    Accumulator x[kTileKeys / 8];
    {
      uint4 keys[kTileKeys / 8][kDims / 32];
      Load(blocks, false, item.kv_head, first_key, position, keys);
      const float* q = p_.q + (int64_t{item.row} * p_.heads.num_heads + head) * head_dim;
#pragma unroll
      for (int j = 0; j < kDims / 32; ++j) {
        SplitEight mine;
        const int channel = j * 32 + t * 8;
        if (is_head && channel < head_dim) {
          const float4* eight = reinterpret_cast<const float4*>(q + channel);
          mine = SplitEight(__ldcg(eight), __ldcg(eight + 1));
        }
#pragma unroll
        for (int n = 0; n < kTileKeys / 8; ++n) MultiplyKey(x[n], mine, SplitEight(), keys[n][j]);
      }
    }
    uint4 values[kTileKeys / 8][kDims / 32];
    Load(blocks, true, item.kv_head, first_key, position, values);
    float top[2], sum[2];
    TileSoftmax(
        p_.scale,
        [&](int, int k) { return first_key + k <= position && first_key + k >= first_seen; }, x,
        top, sum);
    const TileWeights weights[kTileKeys / 16] = {
        {x[0], x[1]}, {x[2], x[3]}, {x[4], x[5]}, {x[6], x[7]}};
    if (is_head && t == 0) {
      __stcg(sums_.tops + PartOf(item.row, head, item.tile), float2{top[0], sum[0]});
    }
    float* out = sums_.out + PartOf(item.row, head, item.tile) * head_dim;
#pragma unroll
    for (int j = 0; j < kDims / 32; ++j) {
      float channels[8];
#pragma unroll
      for (int w = 0; w < 4; ++w) {  // channels 32j + 8t + 2w, + 1
        Accumulator part;
#pragma unroll
        for (int k = 0; k < kTileKeys / 16; ++k) {
          weights[k].AddValues(part, Transposed(Word(values[2 * k][j], w)),
                               Transposed(Word(values[2 * k + 1][j], w)));
        }
        channels[2 * w] = part.c[0];
        channels[2 * w + 1] = part.c[1];
      }
      const int channel = j * 32 + t * 8;
      if (!is_head || channel >= head_dim) continue;
      float4* to = reinterpret_cast<float4*>(out + channel);
      __stcg(to, float4{channels[0], channels[1], channels[2], channels[3]});
      __stcg(to + 1, float4{channels[4], channels[5], channels[6], channels[7]});
    }
  }

  __device__ static uint32_t Word(const uint4& v, int w) {
    return w == 0 ? v.x : w == 1 ? v.y : w == 2 ? v.z : v.w;
  }
  // Of an 8 x 8 matrix of which lane (g, t) holds row g, columns 2t and 2t + 1.
  __device__ static uint32_t Transposed(uint32_t pair) {
    uint32_t out;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(out) : "r"(pair));
    return out;
  }

  __device__ void Merge(int row, int head) const {
    const int lane = threadIdx.x % 32, head_dim = p_.heads.head_dim;
    const float2* tops = sums_.tops + PartOf(row, head, 0);
    const float* parts = sums_.out + PartOf(row, head, 0) * head_dim;
    RunningTop top;
    float sum = 0, out[kDims / 32] = {};
#pragma unroll 4
    for (int tile = 0; tile < rows_.tiles[row]; ++tile) {
      const float2 tile_top = __ldcg(tops + tile);
      float part[kDims / 32];
#pragma unroll
      for (int i = 0; i < kDims / 32; ++i) {
        const int channel = lane + 32 * i;
        part[i] = channel < head_dim ? __ldcg(parts + int64_t{tile} * head_dim + channel) : 0;
      }
      float keep, gain;
      top.Take(tile_top.x, keep, gain);
      sum = Merged(sum, keep, tile_top.y, gain);
#pragma unroll
      for (int i = 0; i < kDims / 32; ++i) out[i] = Merged(out[i], keep, part[i], gain);
    }
    const int64_t at = (int64_t{row} * p_.heads.num_heads + head) * head_dim;
#pragma unroll
    for (int i = 0; i < kDims / 32; ++i) {
      const int channel = lane + 32 * i;
      if (channel >= head_dim) continue;
      const float value = __fdiv_rn(out[i], sum);
      if (p_.out_bf16) {
        static_cast<Bf16*>(p_.out)[at + channel] = FromFloat<Bf16>(value);
      } else {
        static_cast<float*>(p_.out)[at + channel] = value;
      }
    }
  }

  const AttentionProblem& p_;
  const PagedKv kv_;
  const SplitRows& rows_;
  const TileSums& sums_;
  const int group_;
};

}  // namespace pregate::cuda

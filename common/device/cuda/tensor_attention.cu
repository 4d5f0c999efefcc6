// Causal attention over paged bf16 keys and values on tensor cores, where there are no warpgroups
// (warpgroup_attention.cu).
//
//   tile    the rows of a step that are consecutive positions of one sequence within one 64-aligned
//           range of positions; one block a tile and head, 16 rows a warp
//   walk    64 keys at a time, double-buffered in shared memory; from position 0 on, or from the
//           first that the window of one of the rows shows
//
// A row's sums depend on its own position and keys alone: a key that it does not see has weight 0,
// and a step that shows it nothing leaves its sums as they are, so that it does not matter which
// rows of its 64-aligned range stand beside it.
#include "common/device/cuda/attention_tile.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kTile = kTileKeys;  // rows of a tile, keys of a step

// Rows [first, first + count); count 0: this block's row is not the first of a tile.
struct QueryTile {
  int first, count, position;
};

__device__ QueryTile FindQueryTile(const PagedTokens& tokens, int r) {
  const int n = *tokens.rows.num;
  if (r >= n) return {r, 0, 0};
  const int slot = tokens.seq_slots[r], position = tokens.positions[r];
  const auto continues = [&](int other, int other_position) {
    return other >= 0 && other < n && tokens.seq_slots[other] == slot &&
           tokens.positions[other] == other_position && other_position >= 0 &&
           other_position / kTile == position / kTile;
  };
  if (continues(r - 1, position - 1)) return {r, 0, position};
  const int lane = threadIdx.x % 32;
  const uint32_t gaps_low = __ballot_sync(~0u, !continues(r + lane, position + lane));
  const uint32_t gaps_high = __ballot_sync(~0u, !continues(r + 32 + lane, position + 32 + lane));
  const int count =
      gaps_low != 0 ? __ffs(gaps_low) - 1 : 32 + (gaps_high != 0 ? __ffs(gaps_high) - 1 : 32);
  return {r, count, position};
}

template <int kDims>
struct Shared : TileLayout<kDims> {
  static constexpr int kVectors = kTile * (kDims / 8);
  uint4 keys[2][kVectors], values[2][kVectors];
};

template <int kDims>
__device__ void CopyKeysAndValues(Shared<kDims>& s, int buffer, const KvBlocks<Bf16>& blocks,
                                  int kv_head, int first_key, int last_key, int head_dim) {
  constexpr int kChunks = Shared<kDims>::kChunks;
  for (int i = threadIdx.x; i < Shared<kDims>::kVectors; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks, position = first_key + row;
    const bool valid = position <= last_key && chunk * 8 < head_dim;
    const Bf16* key = valid ? blocks.key(kv_head, position) + chunk * 8 : nullptr;
    const Bf16* value = valid ? blocks.value(kv_head, position) + chunk * 8 : nullptr;
    const int at = Shared<kDims>::At(row, chunk);
    CopyAsync16(SharedAddress(s.keys[buffer] + at), key, valid);
    CopyAsync16(SharedAddress(s.values[buffer] + at), value, valid);
  }
  CopyCommit();
}

// What a lane holds of its warp's 16 rows.
template <int kDims>
struct RowState : RowTops {
  uint32_t q[kDims / 16][4];
  Accumulator out[kDims / 8];
};

template <int kDims>
__device__ void MultiplyTileKeys(const RowState<kDims>& state, const uint4* keys,
                                 Accumulator (&x)[kTile / 8]) {
#pragma unroll
  for (int n = 0; n < kTile / 8; n += 2) {
#pragma unroll
    for (int j = 0; j < kDims / 16; ++j) {
      uint32_t b[4];
      LoadMatrices(SharedAddress(keys + TileLane<kDims>::Keys(n * 8, j)), b);
      const uint32_t(&q)[4] = state.q[j];
      Mma(x[n], q[0], q[1], q[2], q[3], b[0], b[1]);
      Mma(x[n + 1], q[0], q[1], q[2], q[3], b[2], b[3]);
    }
  }
}

// Weights x and values of a tile enter the rows' sums.
template <int kDims>
__device__ void AddTileValues(RowState<kDims>& state, const uint4* values, const float (&keep)[2],
                              const float (&gain)[2], const Accumulator (&x)[kTile / 8]) {
  constexpr int kChannels = 4;  // times 8, at once
  const TileWeights weights[kTile / 16] = {{x[0], x[1]}, {x[2], x[3]}, {x[4], x[5]}, {x[6], x[7]}};
#pragma unroll
  for (int first = 0; first < kDims / 8; first += kChannels) {
    Accumulator part[kChannels];
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) {
      uint32_t b[kChannels / 2][4];
#pragma unroll
      for (int c = 0; c < kChannels / 2; ++c) {
        LoadTransposed(SharedAddress(values + TileLane<kDims>::Values(k * 16, first / 2 + c)),
                       b[c]);
      }
      AddValues<kChannels>(part, weights[k], b);
    }
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& out = state.out[first + c].c[i];
        out = Merged(out, keep[i / 2], part[c].c[i], gain[i / 2]);
      }
    }
  }
}

template <int kDims>
__device__ void AddTile(RowState<kDims>& state, const uint4* keys, const uint4* values,
                        int first_key, float scale) {
  Accumulator x[kTile / 8];
  MultiplyTileKeys<kDims>(state, keys, x);
  float tile_top[2], tile_sum[2], keep[2], gain[2];
  TileSoftmax<2>(
      scale, [&](int i, int k) { return state.Sees(i, first_key + k); }, x, tile_top, tile_sum);
  state.Take(tile_top, tile_sum, keep, gain);
  AddTileValues<kDims>(state, values, keep, gain, x);
}

template <int kDims, class Out>
__device__ void StoreRows(const AttentionProblem& p, const RowState<kDims>& state,
                          const QueryTile& tile, int first_row, int head) {
  const int t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = state.Divisor(i);
    const int row = first_row + i * 8;
    if (row >= tile.count) continue;
    Out* out = static_cast<Out*>(p.out) +
               (int64_t{tile.first + row} * p.heads.num_heads + head) * p.heads.head_dim;
#pragma unroll
    for (int c = 0; c < kDims / 8; ++c) {
      if (c * 8 >= p.heads.head_dim) break;
      out[c * 8 + 2 * t] = FromFloat<Out>(__fdiv_rn(state.out[c].c[2 * i], sum));
      out[c * 8 + 2 * t + 1] = FromFloat<Out>(__fdiv_rn(state.out[c].c[2 * i + 1], sum));
    }
  }
}

template <int kDims, class Out>
__global__ void __launch_bounds__(kThreads) TensorAttentionKernel(AttentionProblem p) {
  extern __shared__ uint4 memory[];
  __shared__ unsigned long long poison;
  auto& s = *reinterpret_cast<Shared<kDims>*>(memory);
  const QueryTile tile = FindQueryTile(p.tokens, blockIdx.x);
  if (tile.count == 0) return;
  const int head = blockIdx.y, head_dim = p.heads.head_dim;
  const int kv_head = head / (p.heads.num_heads / p.heads.num_kv_heads);
  const KvBlocks<Bf16> blocks(p.kv, p.heads, p.tokens, tile.first);
  const int last_key = tile.position + tile.count - 1, steps = last_key / kTile + 1;
  const int first_step = p.FirstKey(tile.position) / kTile;
  const int all_seen_from = p.FirstKey(last_key);  // up to tile.position
  CopyKeysAndValues<kDims>(s, first_step % 2, blocks, kv_head, first_step * kTile, last_key,
                           head_dim);

  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int first_row = warp * 16 + g;
  const bool works = warp * 16 < tile.count;
  RowState<kDims> state;
  for (int i = 0; i < 2; ++i) {
    const int row = min(first_row + i * 8, tile.count - 1);  // beyond: the last one, not stored
    state.position[i] = tile.position + row;
    state.first_key[i] = p.FirstKey(state.position[i]);
    const float* q = p.q + (int64_t{tile.first + row} * p.heads.num_heads + head) * head_dim;
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      const int channel = j * 8 + t * 2;
      state.q[j / 2][j % 2 * 2 + i] =
          channel < head_dim ? RoundPair(*reinterpret_cast<const float2*>(q + channel)) : 0;
    }
  }

  for (int step = first_step; step < steps; ++step) {
    const int first_key = step * kTile, buffer = step % 2;
    if (step + 1 < steps) {
      CopyKeysAndValues<kDims>(s, 1 - buffer, blocks, kv_head, first_key + kTile, last_key,
                               head_dim);
      CopyWait<1>();
    } else {
      CopyWait<0>();
    }
    __syncthreads();
    if (step + 1 == steps || first_key < all_seen_from) {
      if (threadIdx.x == 0) poison = 0;
      __syncthreads();
      const uint32_t values = SharedAddress(s.values[buffer]);
      TakeOutNotFinite(
          threadIdx.x, kThreads, Shared<kDims>::kChunks,
          [&](int key, int chunk) { return values + Shared<kDims>::At(key, chunk) * 16; }, &poison);
      __syncthreads();
      state.NotePoison(poison, first_key);
    }
    if (works) {
      AddTile<kDims>(state, s.keys[buffer], s.values[buffer], first_key,
                     __fmul_rn(p.scale, kLog2E));
    }
    __syncthreads();
  }
  if (works) StoreRows<kDims, Out>(p, state, tile, first_row, head);
}

template <int kDims>
void LaunchTensorAttention(Stream& stream, const AttentionProblem& p) {
  const dim3 grid(p.tokens.rows.max, p.heads.num_heads);
  ForElement(p.out_bf16, [&](auto out) {
    Launch(stream, grid, kThreads, sizeof(Shared<kDims>),
           TensorAttentionKernel<kDims, decltype(out)>, p);
  });
}

}  // namespace

void TensorAttention(Stream& stream, const AttentionProblem& p) {
  p.heads.head_dim <= 64 ? LaunchTensorAttention<64>(stream, p)
                         : LaunchTensorAttention<128>(stream, p);
}

}  // namespace pregate::cuda

// Causal attention over paged bf16 keys and values by warpgroups (Hopper), for steps of any rows.
//
//   tile    the rows of a step that are consecutive positions of one sequence within one range of
//           128 / group positions, `group` query heads a key head; with the group's heads, up to 128
//           queries that read the same keys and values
//   item    a tile and a key head. Blocks stay and take items in turn, long ones first.
//   team    what runs an item: one warpgroup where it has up to 64 queries (two teams a block), else
//           both of the block's. A team's keys and values come by a ring of its own, 64 keys or
//           values a slot, which another thread keeps full, on into the items to come.
//
// With many rows there are two launches, one for each kind of team. With fewer tiles are half as large,
// and one launch does.
//
// A query's sums depend on its own position and keys alone: a key that it does not see has weight 0,
// and tiles of keys are added as attention.cuh says.
#include "common/device/cuda/attention_tile.cuh"
#include "common/device/cuda/stream_ring.cuh"
#include "common/device/cuda/tensor_map.cuh"
#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

constexpr int kGroups = 2;  // warpgroups that work; one more has a thread for each ring
constexpr int kGroupThreads = 128;
constexpr int kThreads = (kGroups + 1) * kGroupThreads;
constexpr int kGroupQueries = 64;
constexpr int kTileQueries = kGroups * kGroupQueries;
constexpr int kManyQueries = 256;  // of a step, for a key head
constexpr int kRowsMax = 8192;     // of a step: their tiles fit shared memory

// kPerTeam: warpgroups.
template <int kDims, int kPerTeam>
struct Layout {
  static constexpr int kChunks = kDims / 8;
  static constexpr int kTileBytes = 64 * kDims * 2;
  static constexpr int kTeams = kGroups / kPerTeam;
  static constexpr int kSlots = 10 / kTeams;
  // In shared memory: the tiles of queries, the rings, the tiles' first rows.
  static constexpr int kRings = kGroups * kTileBytes;
  static constexpr int kStarts = kRings + kTeams * kSlots * kTileBytes;
  static constexpr int Bytes(int rows_max) {
    return kStarts + rows_max * static_cast<int>(sizeof(uint16_t));
  }
  // Of a tile of 64 rows, as products of warpgroups take it: panels of 64 channels.
  __device__ static int At(int row, int chunk) {
    return chunk / 8 * 8192 + row * 128 + ((chunk ^ row) & 7) * 16;
  }
};

struct Item {
  int kv_head;
  int first_row, count, position;  // of its tile's first row; positions follow each other
  int first_step, steps;           // tiles of keys that its queries see: [first_step, steps)
  const int32_t* block_table;

  __device__ int last_key() const { return position + count - 1; }
};

// What the threads of a block know of the step.
struct Work {
  const AttentionProblem& p;
  const uint16_t* starts;  // first rows of tiles
  int num_rows, num_tiles;
  int group;
  bool takes_all;  // else tiles of other teams are left to them

  // Whether row r is the first of a tile.
  __device__ static bool Starts(const PagedTokens& tokens, int r, int tile_tokens) {
    const int position = tokens.positions[r];
    return r == 0 || position % tile_tokens == 0 || tokens.positions[r - 1] + 1 != position ||
           tokens.seq_slots[r - 1] != tokens.seq_slots[r];
  }
  // The tiles' first rows in order, by all threads of the block; returns how many there are.
  __device__ static int FindTiles(const PagedTokens& tokens, int num_rows, int tile_tokens,
                                  uint16_t* starts) {
    __shared__ int in_warp[kThreads / 32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int found = 0;
    for (int first = 0; first < num_rows; first += kThreads) {
      const int r = first + threadIdx.x;
      const bool is_start = r < num_rows && Starts(tokens, r, tile_tokens);
      const uint32_t ballot = __ballot_sync(~0u, is_start);
      __syncthreads();
      if (lane == 0) in_warp[warp] = __popc(ballot);
      __syncthreads();
      int at = found + __popc(ballot & ((1u << lane) - 1));
      for (int w = 0; w < kThreads / 32; ++w) {
        if (w < warp) at += in_warp[w];
        found += in_warp[w];
      }
      if (is_start) starts[at] = static_cast<uint16_t>(r);
    }
    __syncthreads();
    return found;
  }
};

// The items of one of `teams` teams.
template <int kPerTeam>
class Items {
 public:
  __device__ Items(const Work& work, int team, int teams)
      : work_(work), team_(team), teams_(teams) {}

  // False where there is no other one. Items of the largest positions come first; every other round
  // goes backwards over the teams.
  __device__ bool Next(Item& item) {
    const AttentionProblem& p = work_.p;
    const int kv_heads = p.heads.num_kv_heads, total = work_.num_tiles * kv_heads;
    for (;; ++round_) {
      const int index = round_ * teams_ + (round_ % 2 == 0 ? team_ : teams_ - 1 - team_);
      if (round_ * teams_ >= total) return false;
      if (index >= total) continue;
      const int tile = work_.num_tiles - 1 - index / kv_heads;
      item.first_row = work_.starts[tile];
      const int end = tile + 1 < work_.num_tiles ? work_.starts[tile + 1] : work_.num_rows;
      item.count = end - item.first_row;
      const bool is_large = item.count * work_.group > kGroupQueries;
      if (!work_.takes_all && is_large != (kPerTeam > 1)) continue;
      item.kv_head = index % kv_heads;
      item.position = p.tokens.positions[item.first_row];
      item.first_step = p.FirstKey(item.position) / kTileKeys;
      item.steps = item.last_key() / kTileKeys + 1;
      item.block_table = p.tokens.block_tables +
                         int64_t{p.tokens.seq_slots[item.first_row]} * p.tokens.blocks_per_seq;
      ++round_;
      return true;
    }
  }

 private:
  const Work& work_;
  const int team_, teams_;
  int round_ = 0;
};

// Keys and values of one layer as boxes of a block's 16 positions, of one head, 64 channels each.
cudaError_t MapKv(const AttentionProblem& p, CUtensorMap* map) {
  const uint64_t row = p.heads.head_dim * sizeof(Bf16);
  return MakeTensorMap<4>(p.kv.data,
                          {uint64_t(p.heads.head_dim), kBlockTokens, uint64_t(p.heads.num_kv_heads),
                           uint64_t{2} * p.kv.num_blocks},
                          {row, kBlockTokens * row, p.heads.num_kv_heads * kBlockTokens * row},
                          {64, kBlockTokens, 1, 1}, map);
}

// Fills a team's ring, by one thread: of each item and step the keys, then the values. What lies
// beyond the item's last block stays what it was; those keys are not seen.
template <int kDims, int kPerTeam>
__device__ void FillRing(const Work& work, Items<kPerTeam> items, const CUtensorMap& map,
                         const unsigned char* slots,
                         const RingBarriers<Layout<kDims, kPerTeam>::kSlots>& barriers) {
  using L = Layout<kDims, kPerTeam>;
  constexpr int kBlocks = kTileKeys / kBlockTokens;
  constexpr int kBoxBytes = kBlockTokens * 128;
  BulkFiller<L::kSlots, L::kTileBytes> ring(slots, barriers);
  Item item;
  while (items.Next(item)) {
    const int end = item.last_key() / kBlockTokens + 1;
    for (int step = item.first_step; step < item.steps; ++step) {
      const int first = step * kBlocks, num = min(kBlocks, end - first);
      int blocks[kBlocks];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) blocks[b] = item.block_table[first + min(b, num - 1)];
#pragma unroll
      for (int is_value = 0; is_value < 2; ++is_value) {
        ring.Fill(num * kDims / 64 * kBoxBytes, [&](uint32_t slot, uint32_t barrier) {
#pragma unroll
          for (int b = 0; b < kBlocks; ++b) {
            if (b >= num) break;
#pragma unroll
            for (int panel = 0; panel < kDims / 64; ++panel) {
              CopyBox(slot + panel * 8192 + b * kBoxBytes, map, panel * 64, 0, item.kv_head,
                      blocks[b] + is_value * work.p.kv.num_blocks, barrier);
            }
          }
        });
      }
    }
  }
}

template <int kDims, int kPerTeam, class Out>
class Team {
  using L = Layout<kDims, kPerTeam>;
  using Ring = RingReader<L::kSlots, L::kTileBytes>;
  static constexpr int kSyncThreads = kPerTeam * kGroupThreads;

 public:
  // queries: shared memory of this warpgroup's tile of queries; index: of the team in its block.
  __device__ Team(const Work& work, uint32_t queries, Ring& ring, int index,
                  unsigned long long& poison)
      : p_(work.p),
        group_(work.group),
        queries_(queries),
        ring_(ring),
        sync_(1 + kGroups + index),
        poison_(poison),
        warpgroup_(UniformInWarp(threadIdx.x / kGroupThreads)),
        first_query_(warpgroup_ % kPerTeam * kGroupQueries),
        mine_(first_query_ + threadIdx.x % kGroupThreads / 32 * 16 + threadIdx.x % 32 / 4) {}

  __device__ void Run(const Item& item) {
    StageQueries(item);
    RowTops state;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int token = min((mine_ + 8 * i) / group_, item.count - 1);
      state.position[i] = item.position + token;
      state.first_key[i] = p_.FirstKey(state.position[i]);
    }
    float out[kDims / 2];
#pragma unroll
    for (float& x : out) x = 0;
    const float scale = __fmul_rn(p_.scale, kLog2E);
    const int all_seen_from = p_.FirstKey(item.last_key());
#pragma unroll 1
    for (int step = item.first_step; step < item.steps; ++step) {
      const int first_key = step * kTileKeys;
      const bool all_seen =
          first_key + kTileKeys <= item.position + 1 && first_key >= all_seen_from;
      Accumulator scores[kTileKeys / 8];
      MultiplyKeys(reinterpret_cast<float(&)[kTileKeys / 2]>(scores));
      float top[2], sum[2], keep[2], gain[2];
      if (all_seen) {
        TileSoftmax<2>(
            scale, [](int, int) { return true; }, scores, top, sum);
      } else {
        TileSoftmax<2>(
            scale, [&](int i, int k) { return state.Sees(i, first_key + k); }, scores, top, sum);
      }
      state.Take(top, sum, keep, gain);
      const TileWeights weights[kTileKeys / 16] = {{scores[0], scores[1]},
                                                   {scores[2], scores[3]},
                                                   {scores[4], scores[5]},
                                                   {scores[6], scores[7]}};
      const uint32_t slot = ring_.Await();
      if (!all_seen) CleanValues(slot, first_key, state);
      float part[kDims / 2];
      MultiplyValues(slot, weights, part);
      ring_.Release();
      Merge(keep, gain, part, out);
    }
    Store(item, state, out);
  }

 private:
  __device__ void SyncGroup() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + warpgroup_), "n"(kGroupThreads) : "memory");
  }
  __device__ void SyncTeam() const {
    asm volatile("bar.sync %0, %1;" ::"r"(sync_), "n"(kSyncThreads) : "memory");
  }
  // Query q of a tile: head q % group of row q / group.
  __device__ int64_t QueryAt(const Item& item, int query) const {
    const int row = item.first_row + query / group_, head = item.kv_head * group_ + query % group_;
    return (int64_t{row} * p_.heads.num_heads + head) * p_.heads.head_dim;
  }

  __device__ void StageQueries(const Item& item) const {
    const int chunk = threadIdx.x % L::kChunks, last = item.count * group_ - 1;
    SyncGroup();  // the item before has been read
#pragma unroll
    for (int i = 0; i < kGroupQueries * L::kChunks / kGroupThreads; ++i) {
      const int row =
          (i * kGroupThreads + static_cast<int>(threadIdx.x) % kGroupThreads) / L::kChunks;
      float4 a = {0, 0, 0, 0}, b = a;
      if (chunk * 8 < p_.heads.head_dim) {
        const float4* from = reinterpret_cast<const float4*>(
            p_.q + QueryAt(item, min(first_query_ + row, last)) + chunk * 8);
        a = from[0];
        b = from[1];
      }
      StoreShared(queries_ + L::At(row, chunk), {RoundPair(a.x, a.y), RoundPair(a.z, a.w),
                                                 RoundPair(b.x, b.y), RoundPair(b.z, b.w)});
    }
    WgmmaSeesShared();
    SyncGroup();
  }

  // The next slot holds keys.
  __device__ void MultiplyKeys(float (&scores)[kTileKeys / 2]) const {
    const uint32_t slot = ring_.Await();
    WgmmaBegin();
    const WgmmaTile queries = WgmmaTile::Rows(queries_), keys = WgmmaTile::Rows(slot);
#pragma unroll
    for (int k = 0; k < kDims / 16; ++k) {
      const uint32_t at = k / 4 * 8192 + k % 4 * 32;
      Wgmma<kTileKeys>::Add(scores, queries.At(at), keys.At(at), k > 0);
    }
    WgmmaCommit();
    WgmmaWait<0>();
    ring_.Release();
  }
  __device__ void MultiplyValues(uint32_t slot, const TileWeights* weights,
                                 float (&part)[kDims / 2]) const {
    WgmmaBegin();
    const WgmmaTile values = WgmmaTile::Columns(slot, 8192);
#pragma unroll
    for (int k = 0; k < kTileKeys / 16; ++k) {
      Wgmma<kDims>::AddColumns(part, weights[k].a, values.At(k * 2048), k > 0);
    }
    WgmmaCommit();
    WgmmaWait<0>();
  }
  // Merged of each sum; `keep` is 1 but where a tile has a larger top.
  __device__ static void Merge(const float (&keep)[2], const float (&gain)[2],
                               const float (&part)[kDims / 2], float (&out)[kDims / 2]) {
    if (__any_sync(~0u, keep[0] != 1 || keep[1] != 1)) {
#pragma unroll
      for (int j = 0; j < kDims / 2; ++j) out[j] = __fmul_rn(out[j], keep[j / 2 % 2]);
    }
#pragma unroll
    for (int j = 0; j < kDims / 2; ++j) out[j] = __fmaf_rn(part[j], gain[j / 2 % 2], out[j]);
  }

  // In steps where queries see different keys.
  __device__ void CleanValues(uint32_t slot, int first_key, RowTops& state) const {
    const int thread = threadIdx.x % kSyncThreads;
    SyncTeam();
    if (thread == 0) poison_ = 0;
    SyncTeam();
    cuda::TakeOutNotFinite(
        thread, kSyncThreads, L::kChunks,
        [&](int key, int chunk) { return slot + L::At(key, chunk); }, &poison_);
    WgmmaSeesShared();
    SyncTeam();
    state.NotePoison(poison_, first_key);
  }

  __device__ void Store(const Item& item, const RowTops& state,
                        const float (&out)[kDims / 2]) const {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int query = mine_ + 8 * i;
      if (query >= item.count * group_) continue;
      Out* to = static_cast<Out*>(p_.out) + QueryAt(item, query) + 2 * t;
      const float divisor = state.Divisor(i);
#pragma unroll
      for (int n = 0; n < kDims / 8; ++n) {
        if (n * 8 >= p_.heads.head_dim) break;
        const float a = __fdiv_rn(out[4 * n + 2 * i], divisor);
        const float b = __fdiv_rn(out[4 * n + 2 * i + 1], divisor);
        if constexpr (sizeof(Out) == 2) {
          *reinterpret_cast<uint32_t*>(to + n * 8) = RoundPair(a, b);
        } else {
          *reinterpret_cast<float2*>(to + n * 8) = {a, b};
        }
      }
    }
  }

  const AttentionProblem& p_;
  const int group_;
  const uint32_t queries_;
  Ring& ring_;
  const int sync_;
  unsigned long long& poison_;
  const int warpgroup_, first_query_, mine_;
};

// Of the 168 that each thread of a block of 384 begins with.
constexpr int kWorkerRegisters = 224, kFillerRegisters = 56;

template <int kDims, int kPerTeam, class Out>
__global__ void __launch_bounds__(kThreads, 1)
    WarpgroupAttentionKernel(const __grid_constant__ AttentionProblem p,
                             const __grid_constant__ CUtensorMap map, bool takes_all,
                             const __grid_constant__ WaitLimit waits) {
  using L = Layout<kDims, kPerTeam>;
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ RingBarriers<L::kSlots> barriers[L::kTeams];
  __shared__ unsigned long long poison[L::kTeams];
  auto* starts = reinterpret_cast<uint16_t*>(memory + L::kStarts);
  if (threadIdx.x < L::kTeams) barriers[threadIdx.x].Init(waits, 1, 4 * kPerTeam);
  const int group = p.heads.num_heads / p.heads.num_kv_heads, num_rows = *p.tokens.rows.num;
  const int tile_tokens = (takes_all ? kGroupQueries : kTileQueries) / group;
  const int num_tiles = Work::FindTiles(p.tokens, num_rows, tile_tokens, starts);
  const Work work = {p, starts, num_rows, num_tiles, group, takes_all};
  AwaitKernelsBefore();
  const int warpgroup = UniformInWarp(threadIdx.x / kGroupThreads);
  const bool fills = warpgroup == kGroups;
  const int warp = threadIdx.x % kGroupThreads / 32;
  const int team = fills ? min(warp, L::kTeams - 1) : warpgroup / kPerTeam;
  Items<kPerTeam> items(work, blockIdx.x * L::kTeams + team,
                        static_cast<int>(gridDim.x) * L::kTeams);
  unsigned char* slots = memory + L::kRings + team * L::kSlots * L::kTileBytes;
  if (fills) {
    KeepFewerRegisters<kFillerRegisters>();
    if (warp == team && threadIdx.x % 32 == 0) {
      FillRing<kDims, kPerTeam>(work, items, map, slots, barriers[team]);
    }
    return;
  }
  TakeMoreRegisters<kWorkerRegisters>();
  RingReader<L::kSlots, L::kTileBytes> ring(slots, barriers[team]);
  Team<kDims, kPerTeam, Out> workers(work, SharedAddress(memory + warpgroup * L::kTileBytes), ring,
                                     team, poison[team]);
  Item item;
  while (items.Next(item)) workers.Run(item);
}

template <int kDims, int kPerTeam>
void LaunchWarpgroupAttention(Stream& stream, const AttentionProblem& p, bool takes_all) {
  int card = 0, blocks = 1;
  cudaGetDevice(&card);
  cudaDeviceGetAttribute(&blocks, cudaDevAttrMultiProcessorCount, card);
  CUtensorMap map;
  const cudaError_t error = MapKv(p, &map);
  if (error != cudaSuccess) {
    if (stream.error == cudaSuccess) stream.error = error;
    return;
  }
  ForElement(p.out_bf16, [&](auto out) {
    LaunchEarly(stream, blocks, kThreads, Layout<kDims, kPerTeam>::Bytes(p.tokens.rows.max),
                WarpgroupAttentionKernel<kDims, kPerTeam, decltype(out)>, p, map, takes_all,
                stream.waits(WaitingKernel::kWarpgroupAttention));
  });
}

template <int kDims>
void RunWarpgroupAttention(Stream& stream, const AttentionProblem& p) {
  const int group = p.heads.num_heads / p.heads.num_kv_heads;
  const bool many = p.tokens.rows.max * group > kManyQueries;
  if (many) LaunchWarpgroupAttention<kDims, 2>(stream, p, false);
  LaunchWarpgroupAttention<kDims, 1>(stream, p, !many);
}

}  // namespace

bool TakesWarpgroupAttention(const PagedTokens& tokens, const Heads& heads) {
  return HasWarpgroups() && IsTensorHead(heads) && tokens.rows.max <= kRowsMax &&
         heads.num_heads / heads.num_kv_heads <= kGroupQueries;
}

void WarpgroupAttention(Stream& stream, const AttentionProblem& p) {
  p.heads.head_dim <= 64 ? RunWarpgroupAttention<64>(stream, p)
                         : RunWarpgroupAttention<128>(stream, p);
}

}  // namespace pregate::cuda

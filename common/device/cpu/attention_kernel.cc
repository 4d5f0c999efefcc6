#include <algorithm>
#include <limits>

#include "common/device/cpu/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "common/device/cpu/attention_kernel.cc"
#include "hwy/foreach_target.h"
// Must follow foreach_target.h.
#include "common/device/cpu/math-inl.h"
#include "common/device/cpu/tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

// --- One block of 16 keys, for the rows of a tile:
//   scores [16] = q . keys          one chain over head_dim a key
//   weights [16] = exp(scores - running largest)
//   values += weights . values      one chain over the keys a dimension
struct BlockArgs {
  const QueryTile* tile;
  int64_t head_dim, padded_dim;
  int first_row;   // rows before it have no keys in this block
  int first_key;   // position of the block's first key
  float* states;   // [num_rows, StateFloats]
  float* weights;  // [num_rows, 16]
};

HWY_INLINE int ValidKeys(const BlockArgs& b, int row) {
  return std::min<int>(kLanes, b.tile->num_keys[row] - b.first_key);
}

template <class W>
HWY_INLINE void ScoreBlock(const BlockArgs& b, const W* keys) {
  for (int r = b.first_row; r < b.tile->num_rows; r += kTileRows) {
    MulAddRows<false, W>(std::min(kTileRows, b.tile->num_rows - r),
                         {b.tile->queries + r, 0, static_cast<size_t>(b.head_dim), keys, kLanes,
                          b.weights + r * kLanes, kLanes, true});
  }
}

HWY_INLINE void Rescale(float factor, int64_t padded_dim, float* state) {
  const Lanes f = Set(factor);
  for (int64_t i = kStateSums; i < kStateValues + padded_dim; i += kLanes) {
    Store(Mul(Load(state + i), f), state + i);
  }
}

HWY_INLINE float ExpOne(float x) {
  float buffer[kLanes];
  Store(Exp(Set(x)), buffer);
  return buffer[0];
}

// Turns a row's scores into weights; keys beyond `valid` weigh nothing.
HWY_INLINE void WeighRow(int valid, float scale, int64_t padded_dim, float* weights, float* state) {
  const float lowest = -std::numeric_limits<float>::infinity();
  Store(Mul(Load(weights), Set(scale)), weights);
  const Lanes scores = LoadFirst(weights, valid, lowest);
  const float top = MaxOf(scores);
  float& largest = state[kStateMax];
  if (top > largest) {
    // Before the first key there is nothing to rescale.
    if (largest != lowest) Rescale(ExpOne(largest - top), padded_dim, state);
    largest = top;
  }
  const Lanes p = Exp(Sub(scores, Set(largest)));
  Store(p, weights);
  Store(Add(Load(state + kStateSums), p), state + kStateSums);
}

template <class W>
HWY_INLINE void SumValues(const BlockArgs& b, const W* values) {
  const float* weights[kTileRows];
  const int64_t state_floats = StateFloats(b.padded_dim);
  for (int r = b.first_row; r < b.tile->num_rows;) {
    const int valid = ValidKeys(b, r);
    int n = 0;  // rows with as many keys; only near the diagonal do they differ
    for (; n < kTileRows && r + n < b.tile->num_rows && ValidKeys(b, r + n) == valid; ++n) {
      weights[n] = b.weights + (r + n) * kLanes;
    }
    for (int64_t i = 0; i < b.padded_dim; i += kLanes) {
      MulAddRows<false, W>(
          n, {weights, 0, static_cast<size_t>(valid), values + i, static_cast<size_t>(b.padded_dim),
              b.states + r * state_floats + kStateValues + i, static_cast<size_t>(state_floats),
              false});
    }
    r += n;
  }
}

template <class W>
HWY_INLINE void AttendBlock(const BlockArgs& b, const W* keys, const W* values) {
  ScoreBlock(b, keys);
  const int64_t state_floats = StateFloats(b.padded_dim);
  for (int r = b.first_row; r < b.tile->num_rows; ++r) {
    WeighRow(ValidKeys(b, r), b.tile->scale, b.padded_dim, b.weights + r * kLanes,
             b.states + r * state_floats);
  }
  SumValues(b, values);
}

HWY_INLINE void StartState(int64_t padded_dim, float* state) {
  std::fill_n(state, StateFloats(padded_dim), 0.0f);
  state[kStateMax] = -std::numeric_limits<float>::infinity();
}

void AttendBlocks(const KvView& kv, const QueryTile& tile, int begin, int end, float* states,
                  float* scratch) {
  const int64_t padded = kv.padded_dim(), head = kv.head_elements();
  float* widened = scratch + int64_t{tile.num_rows} * kLanes;
  BlockArgs b = {&tile, kv.head_dim, padded, 0, 0, states, scratch};
  for (int r = 0; r < tile.num_rows; ++r) StartState(padded, states + r * StateFloats(padded));
  for (int i = begin; i < end; ++i) {
    b.first_key = i * static_cast<int>(kLanes);
    while (b.first_row < tile.num_rows && tile.num_keys[b.first_row] <= b.first_key) ++b.first_row;
    const int64_t at = (int64_t{tile.table[i]} * kv.num_kv_heads + tile.kv_head) * head;
    if (kv.dtype == DType::kF32) {
      const float* keys = reinterpret_cast<const float*>(kv.data) + at;
      AttendBlock(b, keys, keys + kv.key_elements());
      continue;
    }
    const uint16_t* keys = reinterpret_cast<const uint16_t*>(kv.data) + at;
    if (tile.num_rows <= kTileRows) {
      AttendBlock(b, keys, keys + kv.key_elements());
    } else {
      for (int64_t j = 0; j < head; j += kLanes) Store(Load(keys + j), widened + j);
      AttendBlock<float>(b, widened, widened + kv.key_elements());
    }
  }
}

void MergeState(const float* part, int64_t padded_dim, float* state) {
  const float top = std::max(part[kStateMax], state[kStateMax]);
  const Lanes keep = Exp(Set(state[kStateMax] - top));
  const Lanes take = Exp(Set(part[kStateMax] - top));
  for (int64_t i = kStateSums; i < kStateValues + padded_dim; i += kLanes) {
    Store(MulAdd(Load(part + i), take, Mul(Load(state + i), keep)), state + i);
  }
  state[kStateMax] = top;
}

void FinishState(const float* state, int head_dim, DType dtype, float* out) {
  const Lanes sum = Set(SumOf(Load(state + kStateSums)));
  for (int i = 0; i < head_dim; i += kLanes) {
    const Lanes y = Div(Load(state + kStateValues + i), sum);
    StoreFirst(dtype == DType::kBF16 ? RoundToBf16(y) : y, out + i, head_dim - i);
  }
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {

HWY_EXPORT(AttendBlocks);
HWY_EXPORT(MergeState);
HWY_EXPORT(FinishState);

int64_t AttendScratchFloats(int num_rows, int64_t padded_dim) {
  return int64_t{num_rows} * 16 + 2 * 16 * padded_dim;
}
void AttendBlocks(const KvView& kv, const QueryTile& tile, int begin, int end, float* states,
                  float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendBlocks)(kv, tile, begin, end, states, scratch);
}
void MergeState(const float* part, int64_t padded_dim, float* state) {
  HWY_DYNAMIC_DISPATCH(MergeState)(part, padded_dim, state);
}
void FinishState(const float* state, int head_dim, DType dtype, float* out) {
  HWY_DYNAMIC_DISPATCH(FinishState)(state, head_dim, dtype, out);
}

}  // namespace pregate::cpu
#endif  // HWY_ONCE

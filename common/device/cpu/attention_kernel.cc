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

constexpr int kSpanKeys = kSpanBlocks * kKvBlockTokens;

// --- One span of up to 64 keys, for the rows of a tile:
//   scores [64] = q . keys          one chain over head_dim a key
//   weights [64] = exp(scores - running largest)
//   values += weights . values      one chain over the keys a dimension
struct Span {
  const QueryTile* tile;
  int64_t head_dim, padded_dim;
  float* states;                   // [num_rows, StateFloats]
  float* weights;                  // [num_rows, 64]
  int first_row = 0, end_row = 0;  // the rows that see keys of this span
  int first_key = 0;               // position of the span's first key
  int num_blocks = 0;

  // A row sees keys [Hidden, Seen) of the span.
  int Hidden(int row) const { return std::max(0, tile->first_key[row] - first_key); }
  int Seen(int row) const { return std::min(kSpanKeys, tile->end_key[row] - first_key); }
};

// The span's blocks: where they are, or copied together in f32.
template <class W>
struct SpanData {
  const W* keys[kSpanBlocks];    // each [head_dim][16]
  const W* values[kSpanBlocks];  // each [16][padded_dim]
};

template <class W>
HWY_INLINE void ScoreSpan(const Span& s, const SpanData<W>& data) {
  for (int i = 0; i < s.num_blocks; ++i) {
    for (int r = s.first_row; r < s.end_row; r += kTileRows) {
      MulAddRows<0, W>(std::min(kTileRows, s.end_row - r),
                       {s.tile->queries + r, 0, static_cast<size_t>(s.head_dim), data.keys[i],
                        kLanes, s.weights + r * kSpanKeys + i * kLanes, kSpanKeys, true});
    }
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

// Turns a row's scores into weights; keys that it does not see weigh nothing.
HWY_INLINE void WeighRow(int hidden, int seen, float scale, int64_t padded_dim, float* weights,
                         float* state) {
  const float lowest = -std::numeric_limits<float>::infinity();
  Lanes most = Set(lowest);
  for (int i = 0; i < seen; i += kLanes) {
    Store(Mul(Load(weights + i), Set(scale)), weights + i);
    std::fill_n(weights + i, std::clamp(hidden - i, 0, static_cast<int>(kLanes)), lowest);
    const Lanes scores = LoadFirst(weights + i, seen - i, lowest);
    Store(scores, weights + i);
    most = Max(most, scores);
  }
  const float top = MaxOf(most);
  float& largest = state[kStateMax];
  if (top > largest) {
    // Before the first key there is nothing to rescale.
    if (largest != lowest) Rescale(ExpOne(largest - top), padded_dim, state);
    largest = top;
  }
  const Lanes shift = Set(largest);
  Lanes sums = Load(state + kStateSums);
  for (int i = 0; i < seen; i += kLanes) {
    const Lanes p = Exp(Sub(Load(weights + i), shift));
    Store(p, weights + i);
    sums = Add(sums, p);
  }
  Store(sums, state + kStateSums);
}

// Adds the weighted values of keys [begin, end) of the span, whose first key has `values`, to rows
// [row, row + num_rows).
template <class W>
HWY_INLINE void SumKeys(const Span& s, const W* values, int row, int num_rows, int begin, int end) {
  if (begin >= end) return;
  const float* weights[kTileRows];
  for (int i = 0; i < num_rows; ++i) weights[i] = s.weights + (row + i) * kSpanKeys + begin;
  const size_t dim = s.padded_dim, state_floats = StateFloats(s.padded_dim);
  float* sums = s.states + row * state_floats + kStateValues;
  for (size_t i = 0; i < dim; i += kLanes) {
    MulAddRows<0, W>(num_rows, {weights, 0, static_cast<size_t>(end - begin),
                                values + begin * dim + i, dim, sums + i, state_floats, false});
  }
}

// Adds those of keys [first, first + num_keys). Rows near the diagonal or a window's edge see
// different keys: what all rows of a tile see is summed at once, what comes before and behind row by
// row, so that each sum still takes its keys in their order.
template <class W>
HWY_INLINE void SumValues(const Span& s, const W* values, int first, int num_keys) {
  const auto begin = [&](int row) { return std::clamp(s.Hidden(row), first, first + num_keys); };
  const auto end = [&](int row) { return std::clamp(s.Seen(row), first, first + num_keys); };
  for (int r = s.first_row; r < s.end_row; r += kTileRows) {
    const int n = std::min(kTileRows, s.end_row - r);
    const int all_begin = begin(r + n - 1), all_end = std::max(all_begin, end(r));
    for (int i = r; begin(i) < all_begin; ++i) {
      SumKeys(s, values, i, 1, begin(i), std::min(all_begin, end(i)));
    }
    SumKeys(s, values, r, n, all_begin, all_end);
    for (int i = r + n - 1; i >= r && end(i) > all_end; --i) {
      SumKeys(s, values, i, 1, all_end, end(i));
    }
  }
}

template <class W>
HWY_INLINE void ScoreAndWeigh(const Span& s, const SpanData<W>& data) {
  ScoreSpan(s, data);
  for (int r = s.first_row; r < s.end_row; ++r) {
    WeighRow(s.Hidden(r), s.Seen(r), s.tile->scale, s.padded_dim, s.weights + r * kSpanKeys,
             s.states + r * StateFloats(s.padded_dim));
  }
}

// Few rows: keys and values are read where they are.
template <class W>
HWY_INLINE void AttendInPlace(const Span& s, const SpanData<W>& data) {
  ScoreAndWeigh(s, data);
  for (int i = 0; i < s.num_blocks; ++i) {
    const int first = i * kKvBlockTokens;
    SumValues(s, data.values[i] - first * s.padded_dim, first, kKvBlockTokens);
  }
}

// Many rows: blocks are first copied together in f32, which makes the sums over values long.
template <class W>
HWY_INLINE void AttendCopied(const Span& s, const SpanData<W>& data, float* copy) {
  const int64_t key_elements = s.head_dim * kLanes, value_elements = s.padded_dim * kLanes;
  float* values = copy + kSpanBlocks * key_elements;
  SpanData<float> copied;
  for (int i = 0; i < s.num_blocks; ++i) {
    float* keys = copy + i * key_elements;
    for (int64_t j = 0; j < key_elements; j += kLanes) Store(Load(data.keys[i] + j), keys + j);
    float* to = values + i * value_elements;
    for (int64_t j = 0; j < value_elements; j += kLanes) Store(Load(data.values[i] + j), to + j);
    copied.keys[i] = keys;
  }
  ScoreAndWeigh(s, copied);
  SumValues(s, values, 0, s.num_blocks * kKvBlockTokens);
}

template <class W>
HWY_INLINE void AttendSpan(const Span& s, const KvView& kv, const int32_t* blocks, float* copy) {
  SpanData<W> data;
  for (int i = 0; i < s.num_blocks; ++i) {
    const int64_t at =
        (int64_t{blocks[i]} * kv.num_kv_heads + s.tile->kv_head) * kv.head_elements();
    data.keys[i] = reinterpret_cast<const W*>(kv.data) + at;
    data.values[i] = data.keys[i] + kv.key_elements();
  }
  if (s.tile->num_rows <= kTileRows) return AttendInPlace(s, data);
  AttendCopied(s, data, copy);
}

HWY_INLINE void StartState(int64_t padded_dim, float* state) {
  std::fill_n(state, StateFloats(padded_dim), 0.0f);
  state[kStateMax] = -std::numeric_limits<float>::infinity();
}

void AttendBlocks(const KvView& kv, const QueryTile& tile, int begin, int end, float* states,
                  float* scratch) {
  float* copy = scratch + int64_t{tile.num_rows} * kSpanKeys;
  Span s = {&tile, kv.head_dim, kv.padded_dim(), states, scratch};
  for (int r = 0; r < tile.num_rows; ++r) {
    StartState(s.padded_dim, states + r * StateFloats(s.padded_dim));
  }
  for (int i = begin; i < end; i += kSpanBlocks) {
    s.first_key = i * kKvBlockTokens;
    s.num_blocks = std::min(kSpanBlocks, end - i);
    while (s.first_row < tile.num_rows && tile.end_key[s.first_row] <= s.first_key) ++s.first_row;
    const int end_key = s.first_key + kSpanKeys;
    while (s.end_row < tile.num_rows && tile.first_key[s.end_row] < end_key) ++s.end_row;
    if (kv.type == KvType::kBF16) {
      AttendSpan<uint16_t>(s, kv, tile.table + i, copy);
    } else {
      AttendSpan<float>(s, kv, tile.table + i, copy);
    }
  }
}

void MergeState(const float* part, int64_t padded_dim, float* state) {
  if (state[kStateMax] == -std::numeric_limits<float>::infinity()) {  // no key came before
    std::copy_n(part, StateFloats(padded_dim), state);
    return;
  }
  const float top = std::max(part[kStateMax], state[kStateMax]);
  const Lanes keep = Exp(Set(state[kStateMax] - top));
  const Lanes take = Exp(Set(part[kStateMax] - top));
  for (int64_t i = kStateSums; i < kStateValues + padded_dim; i += kLanes) {
    Store(MulAdd(Load(part + i), take, Mul(Load(state + i), keep)), state + i);
  }
  state[kStateMax] = top;
}

void FinishState(const float* state, int head_dim, ActType act, float* out) {
  const Lanes sum = Set(SumOf(Load(state + kStateSums)));
  for (int i = 0; i < head_dim; i += kLanes) {
    const Lanes y = Div(Load(state + kStateValues + i), sum);
    StoreFirst(act == ActType::kBF16 ? RoundToBf16(y) : y, out + i, head_dim - i);
  }
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {

HWY_EXPORT(AttendBlocks);
HWY_EXPORT(MergeState);
HWY_EXPORT(FinishState);

int64_t AttendScratchFloats(int num_rows, const KvView& kv) {
  return kSpanBlocks * (int64_t{num_rows} * kKvBlockTokens + kv.head_elements());
}
void AttendBlocks(const KvView& kv, const QueryTile& tile, int begin, int end, float* states,
                  float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendBlocks)(kv, tile, begin, end, states, scratch);
}
void MergeState(const float* part, int64_t padded_dim, float* state) {
  HWY_DYNAMIC_DISPATCH(MergeState)(part, padded_dim, state);
}
void FinishState(const float* state, int head_dim, ActType act, float* out) {
  HWY_DYNAMIC_DISPATCH(FinishState)(state, head_dim, act, out);
}

}  // namespace pregate::cpu
#endif  // HWY_ONCE

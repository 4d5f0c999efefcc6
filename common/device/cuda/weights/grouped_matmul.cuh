// What the grouped matrix products share: which rows a block has, and where its weights are.
#pragma once

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

// Sorted rows [begin, begin + count) of one group; nothing to do when count is 0.
struct RowTile {
  int group, begin, count;
};

// The index-th tile of `tile_rows` rows: groups one after the other, each cut from its own start. By
// whole warps, with all lanes alike: 32 groups at a time, a lane each. offset(g): where group g begins,
// and the last one ends.
template <class F>
__device__ RowTile FindTile(int num_groups, const F& offset, int index, int tile_rows) {
  const int lane = threadIdx.x % 32;
  for (int first = 0; first < num_groups; first += 32) {
    const int g = first + lane;
    const int begin = g < num_groups ? offset(g) : 0;
    const int rows = g < num_groups ? offset(g + 1) - begin : 0;
    int tiles = (rows + tile_rows - 1) / tile_rows;  // of the groups up to this one
    for (int offset = 1; offset < 32; offset *= 2) {
      const int before = __shfl_up_sync(~0u, tiles, offset);
      if (lane >= offset) tiles += before;
    }
    const uint32_t beyond = __ballot_sync(~0u, tiles > index);
    if (beyond == 0) {
      index -= __shfl_sync(~0u, tiles, 31);
      continue;
    }
    const int found = __ffs(beyond) - 1;
    const int before = found > 0 ? __shfl_sync(~0u, tiles, found - 1) : 0;
    const int skipped = (index - before) * tile_rows;
    return {first + found, __shfl_sync(~0u, begin, found) + skipped,
            min(tile_rows, __shfl_sync(~0u, rows, found) - skipped)};
  }
  return {0, 0, 0};
}
__device__ inline RowTile FindTile(const GroupedMatmul& p, int index, int tile_rows) {
  if (p.offsets == nullptr) {
    const int begin = index * tile_rows;
    return {0, begin, max(0, min(tile_rows, __ldcg(p.rows.num) - begin))};
  }
  return FindTile(
      p.num_groups, [&](int g) { return __ldcg(p.offsets + g); }, index, tile_rows);
}

// How many tiles any division of rows.max rows into the groups may have.
inline int TilesMax(const GroupedMatmul& p, int tile_rows) {
  if (p.offsets == nullptr) return CeilDiv(p.rows.max, tile_rows);
  const int most = p.rows.max / tile_rows + p.num_groups;
  return most < p.rows.max ? most : p.rows.max;
}

// Null where the group has no unit.
template <class T>
__device__ const T* Weights(const GroupedMatmul& p, int group, int64_t section_bytes) {
  const void* base = p.units == nullptr ? p.weight : p.units[group];
  if (base == nullptr) return nullptr;
  return reinterpret_cast<const T*>(static_cast<const char*>(base) + section_bytes);
}

__device__ inline int64_t SourceRow(const GroupedMatmul& p, int sorted_row) {
  return p.x_index == nullptr ? sorted_row : p.x_index[sorted_row];
}

// A finished sum (kGateUp: two) of sorted row `row` and output `o` goes to its place.
template <class T, bool kGateUp>
__device__ void StoreResult(const GroupedMatmul& p, int row, int o, float sum, float up) {
  if (o >= p.out_columns) return;
  const int64_t out_row = p.out_index == nullptr ? row : p.out_index[row];
  const int64_t at = out_row * p.out_stride + o;
  if constexpr (kGateUp) {
    static_cast<T*>(p.out)[at] = FromFloat<T>(__fmul_rn(Silu(sum), up));
  } else {
    static_cast<float*>(p.out)[at] = sum;
  }
}

void SimtMatmul(Stream& stream, const GroupedMatmul& problem, bool gate_up);
// `also` (may be null) runs beside it.
void TensorMatmul(Stream& stream, const GroupedMatmul& problem, const GroupedMatmul* also,
                  bool gate_up);

}  // namespace pregate::cuda

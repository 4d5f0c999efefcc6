// What the device interface says (common/device/arrays.h, layer.h), as kernels take it.
#pragma once

#include "common/device/cuda/kernels.h"
#include "common/device/layer.h"

namespace pregate::cuda {

inline Rows ToRows(RowCount rows) { return {rows.num, rows.max}; }
inline Heads ToHeads(const AttentionShape& shape) {
  return {shape.num_heads, shape.num_kv_heads, shape.head_dim};
}
inline PagedTokens ToPaged(const TokenBatch& batch) {
  return {ToRows(batch.rows), batch.positions, batch.seq_slots, batch.block_tables,
          batch.blocks_per_seq};
}

}  // namespace pregate::cuda

// The kernels that read packed weights, dispatched at run time like those of cpu/kernels.h.
#pragma once

#include "common/device/cpu/weights/panels.h"

namespace pregate::cpu {

inline constexpr int kChunkRows = 128;    // most rows of one MatmulPanel call
inline constexpr int kWidenInputs = 256;  // inputs of a bf16 panel that are widened at a time

struct PanelScratch {
  alignas(64) float widened[kWidenInputs * kPanelOutputs];
  alignas(64) float tile[kChunkRows * kPanelOutputs];
};
// scratch.tile[r][c] = sum over k of rows[r][k] * panel[k][c], r < num_rows <= kChunkRows.
void MatmulPanel(const float* const* rows, int num_rows, const void* panel, int inputs,
                 WeightFormat format, PanelScratch& scratch);
// out[r][c] = round(silu(tile[r][c]) * tile[r][16 + c]) for c < 16.
void SiluMulPanel(const float* tile, int num_rows, ActType act, float* out, int64_t out_stride);

}  // namespace pregate::cpu

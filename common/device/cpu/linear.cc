#include <algorithm>

#include "common/device/cpu/products.h"

namespace pregate::cpu {

Products::Products(ThreadPool& pool) : pool_(pool) {
  for (int t = 0; t < pool.threads(); ++t) scratch_.push_back(std::make_unique<PanelScratch>());
}

// A task is one panel against one chunk of rows; the chunks of a panel follow each other, so that a
// thread finds the panel in its cache again.
void Products::Linear(int num_rows, const float* x, const Matrix& w, const float* bias,
                      float* out) {
  const int64_t num_chunks = CeilDiv(num_rows, kChunkRows);
  const int64_t num_panels = CeilDiv(w.outputs, kPanelOutputs);
  const auto run = [&](int64_t task, int thread) {
    const int64_t panel = task / num_chunks;
    const int64_t first = task % num_chunks * kChunkRows;
    const int n = static_cast<int>(std::min<int64_t>(kChunkRows, num_rows - first));
    const float* rows[kChunkRows];
    for (int r = 0; r < n; ++r) rows[r] = x + (first + r) * w.inputs;
    PanelScratch& scratch = *scratch_[thread];
    MatmulPanel(rows, n, MatrixPanel(w, panel), w.inputs, w.format, scratch);
    const int64_t column = panel * kPanelOutputs;
    const int width = static_cast<int>(std::min<int64_t>(kPanelOutputs, w.outputs - column));
    for (int r = 0; r < n; ++r) {
      float* dst = out + (first + r) * w.outputs + column;
      const float* src = scratch.tile + r * kPanelOutputs;
      for (int c = 0; c < width; ++c) dst[c] = bias == nullptr ? src[c] : src[c] + bias[column + c];
    }
  };
  pool_.Run(num_chunks * num_panels, run);
}

}  // namespace pregate::cpu

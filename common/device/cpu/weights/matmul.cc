#include <algorithm>

#include "common/device/cpu/weights/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "common/device/cpu/weights/matmul.cc"
#include "hwy/foreach_target.h"
// Must follow foreach_target.h.
#include "common/device/cpu/math-inl.h"
#include "common/device/cpu/tile-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace pregate::cpu::HWY_NAMESPACE {

void Widen(const uint16_t* in, size_t n, float* out) {
  for (size_t i = 0; i < n; i += kLanes) Store(Load(in + i), out + i);
}

// Few rows: one pass over the panel, which comes straight from memory.
template <class W>
void StreamPanel(const float* const* rows, int num_rows, const W* panel, int inputs, float* tile) {
  MulAddWideRows<true, W>(num_rows, {rows, 0, static_cast<size_t>(inputs), panel, kPanelOutputs,
                                     tile, kPanelOutputs, true});
}

// One block of inputs, in f32 and small enough for the first-level cache, against all rows.
void BlockPanel(const float* const* rows, int num_rows, const float* block, size_t first,
                size_t depth, float* tile) {
  const int num_tiles = static_cast<int>(CeilDiv(num_rows, kTileRows));
  for (int t = 0; t < num_tiles; ++t) {
    const int begin = num_rows * t / num_tiles;
    const int end = num_rows * (t + 1) / num_tiles;
    MulAddWideRows<false, float>(end - begin,
                                 {rows + begin, first, depth, block, kPanelOutputs,
                                  tile + begin * kPanelOutputs, kPanelOutputs, first == 0});
  }
}

void MatmulPanel(const float* const* rows, int num_rows, const void* panel, int inputs,
                 WeightFormat format, PanelScratch& scratch) {
  const bool bf16 = format == WeightFormat::kBF16;
  const auto* narrow = static_cast<const uint16_t*>(panel);
  const auto* wide = static_cast<const float*>(panel);
  if (num_rows <= kTileRows) {
    if (bf16) return StreamPanel(rows, num_rows, narrow, inputs, scratch.tile);
    return StreamPanel(rows, num_rows, wide, inputs, scratch.tile);
  }
  for (int first = 0; first == 0 || first < inputs; first += kWidenInputs) {
    const size_t depth = std::min(kWidenInputs, inputs - first);
    const int64_t at = int64_t{first} * kPanelOutputs;
    if (bf16) Widen(narrow + at, depth * kPanelOutputs, scratch.widened);
    BlockPanel(rows, num_rows, bf16 ? scratch.widened : wide + at, first, depth, scratch.tile);
  }
}

void SiluMulPanel(const float* tile, int num_rows, ActType act, float* out, int64_t out_stride) {
  for (int r = 0; r < num_rows; ++r) {
    const float* row = tile + r * kPanelOutputs;
    const Lanes y = Mul(Silu(Load(row)), Load(row + kPanelPairs));
    Store(act == ActType::kBF16 ? RoundToBf16(y) : y, out + r * out_stride);
  }
}

}  // namespace pregate::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace pregate::cpu {

HWY_EXPORT(MatmulPanel);
HWY_EXPORT(SiluMulPanel);

void MatmulPanel(const float* const* rows, int num_rows, const void* panel, int inputs,
                 WeightFormat format, PanelScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(MatmulPanel)(rows, num_rows, panel, inputs, format, scratch);
}
void SiluMulPanel(const float* tile, int num_rows, ActType act, float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(SiluMulPanel)(tile, num_rows, act, out, out_stride);
}

}  // namespace pregate::cpu
#endif  // HWY_ONCE

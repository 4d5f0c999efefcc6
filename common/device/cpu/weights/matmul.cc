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

template <class W>
constexpr int kLinesOfInput = kPanelOutputs * sizeof(W) / 64;  // cache lines of a panel

// Few rows: one pass over the panel, which comes straight from memory.
template <class W>
void StreamPanel(const float* const* rows, int num_rows, const W* panel, int inputs, float* tile) {
  constexpr size_t kAheadBytes = 1024;
  MulAddWideRows<kLinesOfInput<W>, W>(
      num_rows, {rows, 0, static_cast<size_t>(inputs), panel, kPanelOutputs, tile, kPanelOutputs,
                 true, reinterpret_cast<const char*>(panel) + kAheadBytes});
}

void Widen(const uint16_t* in, size_t n, float* out) {
  for (size_t i = 0; i < n; i += kLanes) Store(Load(in + i), out + i);
}
const float* InFloats(const uint16_t* block, size_t n, PanelScratch& scratch) {
  Widen(block, n, scratch.widened);
  return scratch.widened;
}
const float* InFloats(const float* block, size_t, PanelScratch&) { return block; }

// Many rows: a block of inputs, small enough for the first-level cache, against all of them, while
// the block behind it comes from memory. (That of a panel's last one begins the next panel.)
template <class W>
void BlockPanel(const float* const* rows, int num_rows, const W* panel, int inputs,
                PanelScratch& scratch) {
  const int num_tiles = static_cast<int>(CeilDiv(num_rows, kTileRows));
  for (int first = 0; first == 0 || first < inputs; first += kWidenInputs) {
    const size_t depth = std::min(kWidenInputs, inputs - first);
    const W* packed = panel + int64_t{first} * kPanelOutputs;
    const float* block = InFloats(packed, depth * kPanelOutputs, scratch);
    for (int t = 0; t < num_tiles; ++t) {
      const int begin = num_rows * t / num_tiles, end = num_rows * (t + 1) / num_tiles;
      const TileArgs<float> args = {rows + begin,
                                    static_cast<size_t>(first),
                                    depth,
                                    block,
                                    kPanelOutputs,
                                    scratch.tile + begin * kPanelOutputs,
                                    kPanelOutputs,
                                    first == 0,
                                    reinterpret_cast<const char*>(packed + depth * kPanelOutputs)};
      if (t == 0) {
        MulAddWideRows<kLinesOfInput<W>>(end - begin, args);
      } else {
        MulAddWideRows<0>(end - begin, args);
      }
    }
  }
}

template <class W>
void MatmulTypedPanel(const float* const* rows, int num_rows, const W* panel, int inputs,
                      PanelScratch& scratch) {
  if (num_rows <= kTileRows) return StreamPanel(rows, num_rows, panel, inputs, scratch.tile);
  BlockPanel(rows, num_rows, panel, inputs, scratch);
}

void MatmulPanel(const float* const* rows, int num_rows, const void* panel, int inputs,
                 WeightFormat format, PanelScratch& scratch) {
  switch (format) {
    case WeightFormat::kF32:
      return MatmulTypedPanel(rows, num_rows, static_cast<const float*>(panel), inputs, scratch);
    case WeightFormat::kBF16:
      return MatmulTypedPanel(rows, num_rows, static_cast<const uint16_t*>(panel), inputs, scratch);
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

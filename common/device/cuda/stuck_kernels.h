// Kernels for tests, of which a wait cannot end.
#pragma once

#include "common/device/cuda/kernels.h"

namespace pregate::cuda {

// Three blocks of four come to a barrier. They are said to be the step kernel's.
void RunStuckBarrier(Stream& stream, BarrierCounts* counts, uint32_t limit_ticks);
// A warp waits for a slot that nobody fills, and a warp for one that nobody reads. They are said to be a ring
// product's.
void RunStuckReader(Stream& stream, uint32_t limit_ticks);
void RunStuckFiller(Stream& stream, uint32_t limit_ticks);
// All four blocks come to `waits` barriers, at least two.
void RunBarriers(Stream& stream, BarrierCounts* counts, int waits);

}  // namespace pregate::cuda

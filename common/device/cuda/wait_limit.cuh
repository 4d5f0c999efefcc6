// The limit of waits inside a kernel (wait_limit.h). Nothing of it is in registers while a kernel computes,
// and a wait that ends soon does not look at the clock.
#pragma once

#include <cstddef>

#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {

__device__ inline uint32_t WaitTicks() {
  uint64_t ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return static_cast<uint32_t>(ns >> kWaitTickNsLog2);
}

// When a block's waits must be over. In shared memory.
struct WaitDeadline {
  uint64_t* stuck;  // see WaitLimit
  uint32_t end;     // in ticks

  // By one thread; the block synchronizes afterwards.
  __device__ void Begin(const WaitLimit& limit) {
    stuck = limit.stuck;
    end = WaitTicks() + limit.ticks;
  }
};

// Ends the grid if it is past. deadline: shared address of a WaitDeadline. What it reads it reads at the last
// moment: what the compiler could read before it would keep.
__device__ inline void CheckDeadline(uint32_t deadline, WaitFor what) {
  static_assert(offsetof(WaitDeadline, stuck) == 0 && offsetof(WaitDeadline, end) == 8);
  uint32_t end;
  asm volatile("ld.shared.u32 %0, [%1 + 8];" : "=r"(end) : "r"(deadline) : "memory");
  if (static_cast<int>(WaitTicks() - end) < 0) [[likely]]
    return;
  uint64_t stuck;
  asm volatile("ld.shared.u64 %0, [%1];" : "=l"(stuck) : "r"(deadline) : "memory");
  if (stuck != 0) {
    uint32_t x, y;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(x));
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(y));
    asm volatile("st.volatile.global.v2.u32 [%0], {%1, %2};" ::"l"(stuck), "r"(x),  // StuckWord
                 "r"(static_cast<uint32_t>(what) << 24 | y)
                 : "memory");
    __threadfence_system();
  }
  __trap();
  __builtin_unreachable();
}

// Polls over() until it is true, or the grid ends.
template <class Over>
__device__ inline void AwaitWithin(uint32_t deadline, WaitFor what, const Over& over) {
  constexpr uint32_t kPollsPerLook = 256;
#pragma unroll 1
  for (uint32_t polls = 1; __builtin_expect(!over(), false); ++polls) {
    if (__builtin_expect(polls % kPollsPerLook == 0, false)) CheckDeadline(deadline, what);
  }
}

}  // namespace pregate::cuda

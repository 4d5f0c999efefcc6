// A barrier over the blocks of a grid that all run at once.
#pragma once

#include "common/device/cuda/wait_limit.cuh"

namespace pregate::cuda {

// Each grid begins with the counts that the one before it left, so the host need not know of them, and a graph
// may launch the kernel again. Relaxed: what others must see is the caller's to have arrived (publish.cuh).
// By one thread of each block, at least twice in a grid: so when End changes `before` all blocks have
// come out of their first Wait, which needs it.
class GridBarrier {
 public:
  // target: the thread's own, in shared memory, so that nobody keeps a register for it.
  __device__ GridBarrier(BarrierCounts* counts, unsigned* target)
      : counts_(counts), target_(*target) {}

  __device__ void Begin() const {
    unsigned before;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(before) : "l"(&counts_->before));
    target_ = before;
  }
  // deadline: shared address of a WaitDeadline.
  __device__ void Wait(uint32_t deadline) const {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(&counts_->arrived) : "memory");
    const unsigned target = target_ + gridDim.x;
    target_ = target;
    AwaitWithin(deadline, WaitFor::kBlocks, [&] {
      unsigned seen;
      asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];"
                   : "=r"(seen)
                   : "l"(&counts_->arrived)
                   : "memory");
      return static_cast<int>(seen - target) >= 0;
    });
  }
  // After the last Wait, by one block.
  __device__ void End() const { counts_->before = target_; }

 private:
  BarrierCounts* const counts_;
  unsigned& target_;  // how many have arrived, ever, when the last Wait is over
};

}  // namespace pregate::cuda

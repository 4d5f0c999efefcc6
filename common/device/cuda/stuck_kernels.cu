#include "common/device/cuda/grid_barrier.cuh"
#include "common/device/cuda/stream_ring.cuh"
#include "common/device/cuda/stuck_kernels.h"

namespace pregate::cuda {
namespace {

constexpr int kBlocks = 4, kSlots = 2;

__global__ void BarrierKernel(BarrierCounts* counts, int blocks, int waits, WaitLimit limit) {
  __shared__ WaitDeadline deadline;
  __shared__ unsigned target;
  if (static_cast<int>(blockIdx.x) >= blocks) return;
  deadline.Begin(limit);
  const GridBarrier barrier(counts, &target);
  barrier.Begin();
  for (int i = 0; i < waits; ++i) barrier.Wait(SharedAddress(&deadline));
  if (blockIdx.x == 0) barrier.End();
}

// Has something to fill for ever, and nothing to copy.
struct EndlessSource {
  __device__ void Advance(int) {}
  __device__ bool done(int) const { return false; }
  __device__ bool Issue(int, uint32_t) { return false; }
};

__global__ void RingKernel(bool reads, WaitLimit limit) {
  __shared__ __align__(128) unsigned char slots[kSlots * kSlotBytes];
  __shared__ RingBarriers<kSlots> barriers;
  if (threadIdx.x == 0) barriers.Init(limit);
  __syncwarp();
  if (reads) {
    RingReader<kSlots> reader(slots, barriers);
    reader.Await();
  } else {
    RingFiller<EndlessSource, kSlots>(slots, barriers, EndlessSource()).Run(0);
  }
}

WaitLimit Within(uint32_t ticks, WaitLimit limit) {
  limit.ticks = ticks;
  return limit;
}
void RunRing(Stream& stream, bool reads, uint32_t limit_ticks) {
  Launch(stream, 1, 32, 0, RingKernel, reads,
         Within(limit_ticks, stream.waits(WaitingKernel::kRingMatmul)));
}

}  // namespace

void RunStuckBarrier(Stream& stream, BarrierCounts* counts, uint32_t limit_ticks) {
  Launch(stream, kBlocks, 1, 0, BarrierKernel, counts, kBlocks - 1, 2,
         Within(limit_ticks, stream.waits(WaitingKernel::kStep)));
}
void RunStuckReader(Stream& stream, uint32_t limit_ticks) { RunRing(stream, true, limit_ticks); }
void RunStuckFiller(Stream& stream, uint32_t limit_ticks) { RunRing(stream, false, limit_ticks); }
void RunBarriers(Stream& stream, BarrierCounts* counts, int waits) {
  Launch(stream, kBlocks, 1, 0, BarrierKernel, counts, kBlocks, waits,
         stream.waits(WaitingKernel::kStep));
}

}  // namespace pregate::cuda

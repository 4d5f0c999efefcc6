#include "bench/gpu/read_memory.h"

namespace pregate {
namespace {

constexpr int kThreads = 256, kBlocks = 8;  // of a multiprocessor: as many threads as it holds
constexpr int kAtOnce = 8;                  // loads of a thread on their way

__global__ void __launch_bounds__(kThreads, kBlocks)
    ReadKernel(const uint4* from, size_t vectors, uint32_t* never) {
  const size_t step = size_t{gridDim.x} * kThreads;
  size_t i = size_t{blockIdx.x} * kThreads + threadIdx.x;
  uint32_t all = 0;
  for (; i + (kAtOnce - 1) * step < vectors; i += kAtOnce * step) {
    uint4 v[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) all |= v[j].x | v[j].y | v[j].z | v[j].w;
  }
  for (; i < vectors; i += step) {
    const uint4 v = __ldcs(from + i);
    all |= v.x | v.y | v.z | v.w;
  }
  if (all != 0) *never = all;
}

}  // namespace

cudaError_t ReadMemory(cudaStream_t stream, int multiprocessors, const void* from, size_t bytes,
                       uint32_t* never) {
  ReadKernel<<<multiprocessors * kBlocks, kThreads, 0, stream>>>(static_cast<const uint4*>(from),
                                                                 bytes / sizeof(uint4), never);
  return cudaGetLastError();
}

}  // namespace pregate

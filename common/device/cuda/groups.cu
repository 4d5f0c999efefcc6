// Stable counting sort of tokens by expert, in one block: a warp takes an expert and walks over the
// routes 32 at a time, so that a token's place is the number of its fellows before it.
#include "common/device/cuda/launch.cuh"

namespace pregate::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;

__global__ void BuildGroupsKernel(Rows rows, const int32_t* routes, int num_experts,
                                  int32_t* offsets, int32_t* order) {
  AwaitKernelsBeforeAndHoldNext();  // a product looks for its rows before it waits
  const int n = *rows.num, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int e = warp; e < num_experts; e += kWarps) {
    int count = 0;
    for (int r = lane; r < n; r += 32) count += routes[r] == e;
    count = __reduce_add_sync(~0u, count);
    if (lane == 0) offsets[e + 1] = count;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    offsets[0] = 0;
    for (int e = 0; e < num_experts; ++e) offsets[e + 1] += offsets[e];
  }
  __syncthreads();
  for (int e = warp; e < num_experts; e += kWarps) {
    int next = offsets[e];
    for (int first = 0; first < n; first += 32) {
      const bool mine = first + lane < n && routes[first + lane] == e;
      const uint32_t ballot = __ballot_sync(~0u, mine);
      if (mine) order[next + __popc(ballot & ((1u << lane) - 1))] = first + lane;
      next += __popc(ballot);
    }
  }
  __threadfence();  // a product may read it as soon as this block ends
}

}  // namespace

void BuildGroups(Stream& stream, Rows rows, const int32_t* routes, int num_experts,
                 int32_t* offsets, int32_t* order) {
  LaunchEarly(stream, 1, kThreads, 0, BuildGroupsKernel, rows, routes, num_experts, offsets, order);
}

}  // namespace pregate::cuda

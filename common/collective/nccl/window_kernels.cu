#include <nccl_device.h>

#include "common/collective/nccl/window_kernels.h"

namespace pregate::nccl {
namespace {

constexpr int kThreads = 512;
constexpr int kUnitsAtOnce = 4;  // loads in flight a thread

__device__ void StoreReleased(uint32_t* word, uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}
__device__ uint32_t LoadAcquired(const uint32_t* word) {
  uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
  return value;
}
__device__ uint64_t Nanoseconds() {
  uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__device__ uint32_t* ArrivedWord(const Window& window, int target, int source) {
  return reinterpret_cast<uint32_t*>(window.peers[target]) + source * kWindowBlocks + blockIdx.x;
}
__device__ char* RowsOf(const Window& window, int target, int source, uint32_t number) {
  const size_t half = number & 1;
  return window.peers[target] + kWindowRowsAt +
         (half * window.world_size + source) * window.message_bytes;
}

// This block's share of `bytes`, all of its threads.
__device__ void CopyShare(char* to, const char* from, size_t bytes) {
  const size_t units = bytes / kWindowUnit;
  const size_t share = (units + gridDim.x - 1) / gridDim.x;
  const size_t begin = min(blockIdx.x * share, units), end = min(begin + share, units);
  const uint4* source = reinterpret_cast<const uint4*>(from);
  uint4* target = reinterpret_cast<uint4*>(to);
  for (size_t first = begin + threadIdx.x; first < end; first += kUnitsAtOnce * kThreads) {
    uint4 values[kUnitsAtOnce];
#pragma unroll
    for (int i = 0; i < kUnitsAtOnce; ++i) {
      if (first + i * kThreads < end) values[i] = __ldcg(source + first + i * kThreads);
    }
#pragma unroll
    for (int i = 0; i < kUnitsAtOnce; ++i) {
      if (first + i * kThreads < end) target[first + i * kThreads] = values[i];
    }
  }
}

__device__ void GiveUp(const Window& window, WindowEnd why, int peer) {
  if (atomicCAS(window.why, kWindowRuns, why) == kWindowRuns) {
    window.outcome[1] = peer;
    window.outcome[0] = why;
    __threadfence_system();
  }
}

// One thread waits for this block's share from `source`. Every 64th look is at what may end it.
__device__ bool Await(const Window& window, int source, uint32_t number) {
  const uint32_t* word = ArrivedWord(window, window.rank, source);
  const auto* left =
      reinterpret_cast<const uint32_t*>(window.peers[window.rank] + kWindowLeftAt) + source;
  uint64_t begin = 0;
  for (int looks = 1; static_cast<int32_t>(LoadAcquired(word) - number) < 0; ++looks) {
    if (looks % 64 != 0) continue;
    if (*window.abort != 0) return GiveUp(window, kWindowAborted, source), false;
    // What it sent before it left counts.
    if (LoadAcquired(left) != 0 && static_cast<int32_t>(LoadAcquired(word) - number) < 0) {
      return GiveUp(window, kWindowPeerLeft, source), false;
    }
    const uint64_t now = Nanoseconds();
    if (begin == 0) begin = now;
    if (now - begin > window.timeout_ns) return GiveUp(window, kWindowTimeout, source), false;
    if (*static_cast<volatile uint32_t*>(window.why) != kWindowRuns) return false;
  }
  return true;
}

__global__ void __launch_bounds__(kThreads)
    Exchange(const __grid_constant__ Window window,
             const __grid_constant__ WindowMessages messages) {
  const uint32_t number = *static_cast<volatile uint32_t*>(window.count) + 1;
  const int rank = window.rank, world = window.world_size;
  const bool runs = *static_cast<volatile uint32_t*>(window.why) == kWindowRuns;
  if (__syncthreads_and(runs)) {
    for (int i = 1; i < world; ++i) {  // each begins with another target
      const int target = (rank + i) % world;
      CopyShare(RowsOf(window, target, rank, number), messages.of[target].send,
                messages.of[target].send_bytes);
    }
    CopyShare(messages.of[rank].recv, messages.of[rank].send, messages.of[rank].send_bytes);
    __syncthreads();  // the release below covers all that the block has written
    const int peer = threadIdx.x;
    const bool has_peer = peer < world && peer != rank;
    if (has_peer) StoreReleased(ArrivedWord(window, peer, rank), number);
    const bool arrived = !has_peer || Await(window, peer, number);
    if (__syncthreads_and(arrived)) {
      for (int i = 1; i < world; ++i) {
        const int source = (rank + i) % world;
        CopyShare(messages.of[source].recv, RowsOf(window, rank, source, number),
                  messages.of[source].recv_bytes);
      }
    }
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  __threadfence();
  if (atomicAdd(window.ended, 1) == gridDim.x - 1) {  // the last block counts the exchange
    *window.ended = 0;
    *window.count = number;
  }
}

__global__ void Addresses(ncclWindow_t window, int world_size, char** peers, int* index) {
  for (int r = 0; r < world_size; ++r) {
    peers[r] = static_cast<char*>(ncclGetLsaPointer(window, 0, r));
  }
  *index = window->lsaRank;
}

}  // namespace

cudaError_t LaunchWindowExchange(const Window& window, const WindowMessages& messages,
                                 cudaStream_t stream) {
  Exchange<<<kWindowBlocks, kThreads, 0, stream>>>(window, messages);
  return cudaGetLastError();
}

cudaError_t LaunchWindowAddresses(ncclWindow_t window, int world_size, char** peers, int* index,
                                  cudaStream_t stream) {
  Addresses<<<1, 1, 0, stream>>>(window, world_size, peers, index);
  return cudaGetLastError();
}

}  // namespace pregate::nccl

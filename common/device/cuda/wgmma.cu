#include <cuda_runtime_api.h>

#include <atomic>

#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

__global__ void Probe() {}

}  // namespace

bool HasWarpgroups() {
  constexpr int kCards = 64;              // whose answers are kept
  static std::atomic<int> known[kCards];  // 0: not asked, 1: no, 2: yes
  int card = 0;
  if (cudaGetDevice(&card) != cudaSuccess) return false;
  if (card < kCards && known[card] != 0) return known[card] == 2;
  cudaFuncAttributes attributes;
  const bool has = cudaFuncGetAttributes(&attributes, Probe) == cudaSuccess &&
                   attributes.binaryVersion == 90 && attributes.ptxVersion == 90;
  if (card < kCards) known[card] = has ? 2 : 1;
  return has;
}

}  // namespace pregate::cuda

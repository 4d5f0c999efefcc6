#include <cuda_runtime_api.h>

#include "common/device/cuda/wgmma.cuh"

namespace pregate::cuda {
namespace {

__global__ void Probe() {}

}  // namespace

bool HasWarpgroups() {
  static const bool has = [] {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, Probe) == cudaSuccess &&
           attributes.binaryVersion == 90 && attributes.ptxVersion == 90;
  }();
  return has;
}

}  // namespace pregate::cuda

// Boxes of a tensor that the card copies by itself (Hopper's TMA).
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace pregate::cuda {

// bf16 elements of kDims dimensions, the first one contiguous. strides: bytes from one index of the
// second and further to the next, multiples of 16. A box comes as rows of 64 elements, as
// products of warpgroups take them (wgmma.cuh); what lies outside of the tensor is zeros.
template <int kDims>
cudaError_t MakeTensorMap(void* data, const uint64_t (&sizes)[kDims],
                          const uint64_t (&strides)[kDims - 1], const uint32_t (&box)[kDims],
                          CUtensorMap* map) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                     &found);
    return found == cudaDriverEntryPointSuccess ? reinterpret_cast<Encode>(function) : nullptr;
  }();
  if (encode == nullptr) return cudaErrorNotSupported;
  cuuint32_t ones[kDims];
  cuuint64_t size[kDims], stride[kDims - 1];
  for (int i = 0; i < kDims; ++i) ones[i] = 1, size[i] = sizes[i];
  for (int i = 0; i < kDims - 1; ++i) stride[i] = strides[i];
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, kDims, data, size, stride, box, ones,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// Starts the copy of the box at (a, b, c, d) into shared memory; `barrier` counts its bytes.
__device__ inline void CopyBox(uint32_t shared, const CUtensorMap& map, int a, int b, int c, int d,
                               uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
      "[%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared),
      "l"(&map), "r"(a), "r"(b), "r"(c), "r"(d), "r"(barrier)
      : "memory");
}

}  // namespace pregate::cuda

// What the kernels share: launching, rounding, reductions over a block.
#pragma once

#include <cuda_bf16.h>

#include <utility>

#include "common/device/cuda/kernels.h"

namespace pregate::cuda {

// Nothing happens for an empty grid. What a block may have without asking, 48 KiB with the kernel's own
// shared variables, is asked for here.
template <class... P, class... A>
void LaunchWith(Stream& stream, bool early, dim3 grid, int threads, size_t shared_bytes,
                void (*kernel)(P...), A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  cudaError_t error = cudaSuccess;
  if (shared_bytes > 32 * 1024) {
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  }
  if (error == cudaSuccess) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream.handle;
    config.attrs = &attribute;
    config.numAttrs = early ? 1 : 0;
    error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...);
  }
  ++stream.num_launches;
  if (stream.error == cudaSuccess) stream.error = error;
}
template <class... A>
void Launch(Stream& stream, dim3 grid, int threads, size_t shared_bytes, A&&... kernel_and_args) {
  LaunchWith(stream, false, grid, threads, shared_bytes, std::forward<A>(kernel_and_args)...);
}
// The kernel may begin while the one before still runs: it calls AwaitKernelsBefore.
template <class... A>
void LaunchEarly(Stream& stream, dim3 grid, int threads, size_t shared_bytes,
                 A&&... kernel_and_args) {
  LaunchWith(stream, true, grid, threads, shared_bytes, std::forward<A>(kernel_and_args)...);
}
// All that was launched before is done, its results are seen, and the next kernel may begin. Until then
// a kernel writes nothing but shared memory, and reads nothing that the two before it have written.
// Every block waits, since who waits for a kernel must be able to rely on those before it.
__device__ inline void AwaitKernelsBefore() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
// The same, but the next kernel begins when this one has ended: it may read at once what this one writes.
__device__ inline void AwaitKernelsBeforeAndHoldNext() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

__host__ __device__ constexpr int CeilDiv(int64_t a, int64_t b) {
  return static_cast<int>((a + b - 1) / b);
}

using Bf16 = __nv_bfloat16;

template <class T>
__device__ T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline Bf16 FromFloat<Bf16>(float x) {
  return __float2bfloat16_rn(x);
}
__device__ inline float ToFloat(float x) { return x; }
__device__ inline float ToFloat(Bf16 x) { return __bfloat162float(x); }

// Two neighbouring elements.
__device__ inline uint32_t RoundPair(float a, float b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline uint32_t RoundPair(const float2& v) { return RoundPair(v.x, v.y); }

inline constexpr float kLog2E = 1.44269504f;

// To about 2^-22; 0 below the smallest normal number.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// x / (1 + e^-x), to about 2^-21, by the two approximations that a multiprocessor has units for: a tile of
// many rows makes thousands of them while its tensor cores wait. One function, so that bits are one.
__device__ inline float Silu(float x) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;"
      : "=f"(inverse)
      : "f"(__fadd_rn(1.0f, Exp2(__fmul_rn(x, -kLog2E)))));
  return __fmul_rn(x, inverse);
}

// Calls F<float> or F<Bf16>.
template <class F>
void ForElement(bool bf16, const F& f) {
  if (bf16) {
    f(Bf16());
  } else {
    f(float());
  }
}

// A value that all lanes of a warp have, told to the compiler, which then keeps it once.
__device__ inline int UniformInWarp(int value) { return __shfl_sync(~0u, value, 0); }

// Of a warp's values, lanes pairwise; the same in every lane.
template <class T, class Combine>
__device__ T WarpReduce(T value, const Combine& combine) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(~0u, value, offset));
  }
  return value;
}

// The same result in every thread, in an order that the number of threads fixes. `scratch` [32] in
// shared memory; may be used again at once. REQUIRES: blockDim.x is a multiple of 32.
template <class T, class Combine>
__device__ T BlockReduce(T value, T* scratch, T identity, const Combine& combine) {
  value = WarpReduce(value, combine);
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  const int warps = blockDim.x / 32;
  T total = identity;
  for (int w = 0; w < warps; ++w) total = combine(total, scratch[w]);
  return total;
}

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Largest {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

}  // namespace pregate::cuda

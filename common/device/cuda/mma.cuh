// Tensor-core products of bf16 with f32 sums: D[16 x 8] += A[16 x 16] · B[16 x 8].
#pragma once

#include <cstdint>

namespace pregate::cuda {

struct Accumulator {
  float c[4] = {};  // lane (g, t) = (lane / 4, lane % 4): [g][2t, 2t + 1], [g + 8][2t, 2t + 1]
};

// a: rows g and g + 8 (alternating) of two K-pairs; b: column g of the same two pairs. Which inputs
// the pairs stand for is the caller's choice, as long as both sides agree.
__device__ inline void Mma(Accumulator& d, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                           uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d.c[0]), "+f"(d.c[1]), "+f"(d.c[2]), "+f"(d.c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ inline uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
// Four 8 x 8 matrices: lanes 8i .. 8i + 7 give the addresses of the rows of matrix i, of which lane
// (g, t) gets row g, columns 2t and 2t + 1.
__device__ inline void LoadMatrices(uint32_t address, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address));
}

// Where weights are the rows of a product, lane (g, t) has of output g what belongs to rows 2t and
// 2t + 1 of x. Lanes of g and g ^ 1 exchange: outputs g & ~1 and the next one, of row 2t + g % 2.
__device__ inline float2 NeighbourOutputs(float even, float odd) {
  const bool is_odd = threadIdx.x / 4 % 2 == 1;
  const float other = __shfl_xor_sync(~0u, is_odd ? even : odd, 4);
  return is_odd ? float2{other, odd} : float2{even, other};
}

__device__ inline uint4 LoadShared(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ inline void StoreShared(uint32_t address, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}

// 16 bytes from device to shared memory, zeros where !valid; done after CopyWait.
__device__ inline void CopyAsync16(uint32_t shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}
// The same for bytes whose neighbours, aligned to 256, are read next: they come into the L2 with them.
__device__ inline void CopyAsync16Ahead(uint32_t shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;\n" ::"r"(shared),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void CopyCommit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int kPending>
__device__ inline void CopyWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

}  // namespace pregate::cuda

// Hopper's products of a warpgroup: D[64 x N] += A[64 x 16] · B[N x 16], bf16 with f32 sums. Both
// sides are tiles in shared memory, rows of 128 bytes whose vectors of 16 bytes are swapped by
// `vector ^ row % 8` (the 128-byte swizzle; a tile begins at a multiple of 1,024 bytes); A may be in
// registers instead, as Mma takes it, and B may lie with its columns as rows.
#pragma once

#include "common/device/cuda/mma.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define PREGATE_WGMMA 1
#endif

namespace pregate::cuda {

// Whether the current card runs what was compiled for warpgroups. Asked once a card.
bool HasWarpgroups();

// What a product is told of a tile in shared memory. Few instructions make one of another.
class WgmmaTile {
 public:
  // Rows of 128 bytes begin here; 32 bytes further are the next 16 inputs.
  __device__ static WgmmaTile Rows(uint32_t shared) { return WgmmaTile(shared, 16); }
  // Of B as rows of 64 columns each, one an input; the next 64 columns lie panel_bytes further, and
  // 2,048 bytes further are the next 16 inputs.
  __device__ static WgmmaTile Columns(uint32_t shared, uint32_t panel_bytes) {
    return WgmmaTile(shared, panel_bytes);
  }
  __device__ uint64_t At(uint32_t bytes) const {
    return uint64_t{low_ + (bytes >> 4)} | uint64_t{1024 >> 4 | 1u << 30} << 32;
  }

 private:
  __device__ WgmmaTile(uint32_t shared, uint32_t panel_bytes)
      : low_((shared & 0x3FFFF) >> 4 | panel_bytes >> 4 << 16) {}
  uint32_t low_;
};
__device__ inline void WgmmaBegin() {
#ifdef PREGATE_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ inline void WgmmaCommit() {
#ifdef PREGATE_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int kPending>
__device__ inline void WgmmaWait() {
#ifdef PREGATE_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
}
// What was written to shared memory before is seen by products after.
__device__ inline void WgmmaSeesShared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// d[4 n + 2 i + c]: lane (g, t) of warp w has row 16 w + g + 8 i, column 8 n + 2 t + c. Without
// `adds` what d was does not count. The instruction names each of a lane's sums.
template <int kColumns>
struct Wgmma;

// clang-format off
#define PREGATE_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define PREGATE_NAMES_32 PREGATE_NAMES_16 \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PREGATE_NAMES_64 PREGATE_NAMES_32 \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PREGATE_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define PREGATE_SUMS_16(i) PREGATE_SUMS_4(i), PREGATE_SUMS_4(i + 4), PREGATE_SUMS_4(i + 8), PREGATE_SUMS_4(i + 12)
#define PREGATE_SUMS_32(i) PREGATE_SUMS_16(i), PREGATE_SUMS_16(i + 16)
#define PREGATE_SUMS_64(i) PREGATE_SUMS_32(i), PREGATE_SUMS_32(i + 32)
// A lane has kSums. Operands after them: a, b, adds.
#define PREGATE_WGMMA_TILES(kColumns, kSums, kA, kB, kAdds)                                                           \
  static __device__ void Add(float (&d)[kSums], uint64_t a, uint64_t b, bool adds) {                                  \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " kAdds ", 0; "                                                      \
                 "wgmma.mma_async.sync.aligned.m64n" #kColumns "k16.f32.bf16.bf16 {" PREGATE_NAMES_##kSums "}, "      \
                 kA ", " kB ", p, 1, 1, 0, 0; }"                                                                      \
                 : PREGATE_SUMS_##kSums(0)                                                                            \
                 : "l"(a), "l"(b), "r"(static_cast<int>(adds)));                                                      \
  }
// The same with A in registers and B of WgmmaTile::Columns.
#define PREGATE_WGMMA_COLUMNS(kColumns, kSums, kA, kB, kAdds)                                                         \
  static __device__ void AddColumns(float (&d)[kSums], const uint32_t (&a)[4], uint64_t b, bool adds) {               \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, " kAdds ", 0; "                                                      \
                 "wgmma.mma_async.sync.aligned.m64n" #kColumns "k16.f32.bf16.bf16 {" PREGATE_NAMES_##kSums "}, {"     \
                 kA "}, " kB ", p, 1, 1, 1; }"                                                                        \
                 : PREGATE_SUMS_##kSums(0)                                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(adds)));                  \
  }
#ifndef PREGATE_WGMMA
#undef PREGATE_WGMMA_TILES
#undef PREGATE_WGMMA_COLUMNS
#define PREGATE_WGMMA_TILES(kColumns, kSums, kA, kB, kAdds) \
  static __device__ void Add(float (&)[kSums], uint64_t, uint64_t, bool) { __trap(); }
#define PREGATE_WGMMA_COLUMNS(kColumns, kSums, kA, kB, kAdds) \
  static __device__ void AddColumns(float (&)[kSums], const uint32_t (&)[4], uint64_t, bool) { __trap(); }
#endif

template <>
struct Wgmma<32> {
  PREGATE_WGMMA_TILES(32, 16, "%16", "%17", "%18")
};
template <>
struct Wgmma<64> {
  PREGATE_WGMMA_TILES(64, 32, "%32", "%33", "%34")
  PREGATE_WGMMA_COLUMNS(64, 32, "%32, %33, %34, %35", "%36", "%37")
};
template <>
struct Wgmma<128> {
  PREGATE_WGMMA_TILES(128, 64, "%64", "%65", "%66")
  PREGATE_WGMMA_COLUMNS(128, 64, "%64, %65, %66, %67", "%68", "%69")
};
#undef PREGATE_WGMMA_TILES
#undef PREGATE_WGMMA_COLUMNS
#undef PREGATE_NAMES_16
#undef PREGATE_NAMES_32
#undef PREGATE_NAMES_64
#undef PREGATE_SUMS_4
#undef PREGATE_SUMS_16
#undef PREGATE_SUMS_32
#undef PREGATE_SUMS_64
// clang-format on

}  // namespace pregate::cuda

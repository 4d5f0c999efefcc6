// What a warp reads of the model, on its way into shared memory: a ring of slots that the warp's
// source fills in order by asynchronous copies. It runs ahead of the work as far as it has slots,
// whatever the warp waits for meanwhile: where the next bytes lie depends on nothing that a step
// computes. (Copies of 16 bytes a lane: bulk copies of 512 bytes, which a warp issues one after the
// other, were 15% slower.)
#pragma once

#include "common/device/cuda/launch.cuh"
#include "common/device/cuda/mma.cuh"

namespace pregate::cuda {

inline constexpr int kStripRows = 8;
inline constexpr int kSlotInputs = 256;
// Rows of weights lie 16 bytes further apart than they are long, so that eight of them meet
// different banks.
inline constexpr int kSlotRowBytes = kSlotInputs * 2 + 16;
inline constexpr int kSlotBytes = kStripRows * kSlotRowBytes;

// Source: `void Issue(uint32_t slot)` starts the copies of the next slot to a shared address; nothing
// where all has been issued.
template <class Source, int kSlots>
class StreamRing {
 public:
  // `slots` [kSlots][kSlotBytes] in shared memory.
  __device__ StreamRing(unsigned char* slots, const Source& source)
      : slots_(SharedAddress(slots)), source_(source) {
    for (int i = 0; i < kSlots; ++i) {
      source_.Issue(slots_ + i * kSlotBytes);
      CopyCommit();
    }
  }

  // The address of the next slot, filled.
  __device__ uint32_t Await() const {
    CopyWait<kSlots - 1>();
    __syncwarp();
    return slots_ + slot_ * kSlotBytes;
  }
  // The warp has read it.
  __device__ void Release() {
    __syncwarp();
    source_.Issue(slots_ + slot_ * kSlotBytes);
    CopyCommit();
    if (++slot_ == kSlots) slot_ = 0;
  }

 private:
  const uint32_t slots_;
  Source source_;
  int slot_ = 0;
};

// Eight rows of weights, times up to eight rows of x. Rows 0 to 3 and 4 to 7 lie together.
struct Strip {
  const Bf16 *first = nullptr, *second = nullptr;
  int inputs = 0;  // a multiple of 16, and the elements from row to row
  int issued = 0;

  __device__ bool done() const { return issued >= inputs; }
  __device__ void Issue(uint32_t slot) {
    const int lane = threadIdx.x % 32, k = issued + lane * 8;
    if (k < inputs) {
#pragma unroll
      for (int n = 0; n < kStripRows; ++n) {
        CopyAsync16(slot + n * kSlotRowBytes + lane * 16,
                    (n < 4 ? first : second) + (n % 4) * inputs + k);
      }
    }
    issued += kSlotInputs;
  }
};

// sums (lane (g, t): row g, outputs 2t and 2t + 1 of the strip) = rows of x times the next strip: 16
// inputs after the other, into one sum. x: shared address of this lane's part, see XAddress.
template <class Ring>
__device__ void MultiplyStrip(Ring& ring, int inputs, uint32_t x, float (&sums)[2]) {
  const int lane = threadIdx.x % 32;
  Accumulator c;
  const auto multiply = [&](uint32_t w, int i, int products) {
    uint32_t weights[4], rows[4];
    LoadMatrices(w + i * 2, weights);
    LoadMatrices(x + i * 2, rows);
    Mma(c, rows[0], 0, rows[1], 0, weights[0], weights[1]);
    if (products == 2) Mma(c, rows[2], 0, rows[3], 0, weights[2], weights[3]);
  };
  for (int k = 0; k < inputs; k += kSlotInputs) {
    const uint32_t w = ring.Await() + lane % 8 * kSlotRowBytes + lane / 8 * 16;
    const int count = min(kSlotInputs, inputs - k);
    if (count == kSlotInputs) {
#pragma unroll
      for (int i = 0; i < kSlotInputs; i += 32) multiply(w, i, 2);
    } else {
      int i = 0;
      for (; i + 32 <= count; i += 32) multiply(w, i, 2);
      if (i < count) multiply(w, i, 1);
    }
    x += kSlotInputs * 2;
    ring.Release();
  }
  sums[0] = c.c[0];
  sums[1] = c.c[1];
}
// Of a lane's part of 8 rows of x that lie row_bytes apart (16 more than a multiple of 128); rows
// from `rows` on repeat the last.
__device__ inline uint32_t XAddress(const void* x, int row_bytes, int rows) {
  const int lane = threadIdx.x % 32;
  return SharedAddress(x) + min(lane % 8, rows - 1) * row_bytes + lane / 8 * 16;
}

}  // namespace pregate::cuda

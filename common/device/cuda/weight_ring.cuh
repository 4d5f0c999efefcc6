// Weights on their way into a warp: strips of 8 weight rows, 256 inputs at a time, as bulk copies
// into a ring of slots in shared memory. The ring belongs to one warp. It runs ahead of the products
// as far as it has slots, whatever the warp waits for meanwhile: where the next weights lie depends
// on nothing that the step computes.
#pragma once

#include "common/device/cuda/launch.cuh"
#include "common/device/cuda/mma.cuh"

namespace pregate::cuda {

inline constexpr int kStripRows = 8;
inline constexpr int kSlotInputs = 256;
// Rows lie 16 bytes further apart than they are long, so that eight of them meet different banks.
inline constexpr int kSlotRowBytes = kSlotInputs * 2 + 16;
inline constexpr int kSlotBytes = kStripRows * kSlotRowBytes;

// Rows of a strip: lane n < 8 knows where row n begins.
struct Strip {
  const Bf16* row = nullptr;
  int inputs = 0;  // a multiple of 16
};

// Source: `bool Next(Strip&)` gives the strips in order.
template <class Source>
class WeightRing {
 public:
  // `barriers` [num_slots] and `slots` [num_slots][kSlotBytes] in shared memory.
  __device__ WeightRing(unsigned char* slots, uint64_t* barriers, int num_slots, Source source)
      : slots_(SharedAddress(slots)),
        barriers_(SharedAddress(barriers)),
        num_slots_(num_slots),
        source_(source) {
    if (lane() == 0) {
      for (int i = 0; i < num_slots; ++i) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barriers_ + 8 * i) : "memory");
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
      asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncwarp();
    more_ = source_.Next(coming_);
    for (int i = 0; i < num_slots; ++i) Fill(i);
  }

  // sums (lane (g, t): row g, outputs 2t and 2t + 1 of the strip) = rows of x times the next strip.
  // x: shared address of this lane's part, see XAddress.
  __device__ void Multiply(int inputs, uint32_t x, float (&sums)[2]) {
    float c[4] = {};
    const uint32_t mine = lane() % 8 * kSlotRowBytes + lane() / 8 * 16;
    for (int k = 0; k < inputs; k += kSlotInputs) {
      Await();
      const uint32_t w = slots_ + slot_ * kSlotBytes + mine;
      const int count = min(kSlotInputs, inputs - k);
      if (count == kSlotInputs) {
#pragma unroll
        for (int i = 0; i < kSlotInputs; i += 32) Multiply32(w + i * 2, x + i * 2, c);
      } else {
        int i = 0;
        for (; i + 32 <= count; i += 32) Multiply32(w + i * 2, x + i * 2, c);
        if (i < count) Multiply16(w + i * 2, x + i * 2, c);
      }
      x += kSlotInputs * 2;
      __syncwarp();
      Fill(slot_);
      if (++slot_ == num_slots_) slot_ = 0, parity_ ^= 1;
    }
    sums[0] = c[0];
    sums[1] = c[1];
  }
  // Of a lane's part of 8 rows of x that lie row_bytes apart (16 more than a multiple of 128); rows
  // from `rows` on repeat the last.
  __device__ static uint32_t XAddress(const void* x, int row_bytes, int rows) {
    return SharedAddress(x) + min(lane() % 8, rows - 1) * row_bytes + lane() / 8 * 16;
  }

 private:
  __device__ static int lane() { return threadIdx.x % 32; }

  // 16 inputs after the other, into one sum.
  __device__ static void Multiply16(const uint32_t* x, const uint32_t* w, float (&c)[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %5}, {%7, %8}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(x[0]), "r"(0), "r"(x[1]), "r"(w[0]), "r"(w[1]));
  }
  __device__ static void Multiply32(uint32_t w, uint32_t x, float (&c)[4]) {
    uint32_t weights[4], rows[4];
    LoadMatrices(w, weights);
    LoadMatrices(x, rows);
    Multiply16(rows, weights, c);
    Multiply16(rows + 2, weights + 2, c);
  }
  __device__ static void Multiply16(uint32_t w, uint32_t x, float (&c)[4]) {
    uint32_t weights[4], rows[4];
    LoadMatrices(w, weights);
    LoadMatrices(x, rows);
    Multiply16(rows, weights, c);
  }

  __device__ void Await() const {
    const uint32_t barrier = barriers_ + 8 * slot_;
    uint32_t done = 0;
    while (done == 0) {
      asm volatile(
          "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
          "selp.u32 %0, 1, 0, p; }"
          : "=r"(done)
          : "r"(barrier), "r"(parity_)
          : "memory");
    }
  }

  __device__ void Fill(int slot) {
    if (!more_) return;
    const uint32_t barrier = barriers_ + 8 * slot;
    const int bytes = min(kSlotInputs, coming_.inputs - filled_) * 2;
    if (lane() == 0) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                   "r"(bytes * kStripRows)
                   : "memory");
    }
    __syncwarp();
    if (lane() < kStripRows) {
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
          "[%3];" ::"r"(slots_ + slot * kSlotBytes + lane() * kSlotRowBytes),
          "l"(coming_.row + filled_), "r"(bytes), "r"(barrier)
          : "memory");
    }
    filled_ += kSlotInputs;
    if (filled_ < coming_.inputs) return;
    filled_ = 0;
    more_ = source_.Next(coming_);
  }

  const uint32_t slots_, barriers_;
  const int num_slots_;
  Source source_;
  Strip coming_;    // the strip that is being filled in
  int filled_ = 0;  // of its inputs
  bool more_;
  int slot_ = 0;  // that is read next
  uint32_t parity_ = 0;
};

}  // namespace pregate::cuda

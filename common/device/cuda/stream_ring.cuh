// What a warp reads of the model, on its way into shared memory: a ring of slots that another warp
// fills in order by asynchronous copies. It runs ahead of the work as far as it has slots, whatever the
// work waits for meanwhile: where the next bytes lie depends on nothing that a step computes.
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

// The shared memory of a ring; its slots lie elsewhere.
template <int kSlots>
struct RingBarriers {
  uint64_t filled[kSlots], read[kSlots];

  // By one thread; the block synchronizes afterwards.
  __device__ void Init() {
    for (int i = 0; i < kSlots; ++i) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 32;" ::"r"(SharedAddress(filled + i))
                   : "memory");
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(SharedAddress(read + i))
                   : "memory");
    }
  }
};

// Whether the barrier's phase of this parity is over; asks for some time.
__device__ inline bool PhaseIsOver(uint32_t barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, %3; "
      "selp.u32 %0, 1, 0, p; }"
      : "=r"(over)
      : "r"(barrier), "r"(parity), "r"(10000000)  // ns
      : "memory");
  return over != 0;
}

// A warp's place in a ring of kSlots.
template <int kSlots>
class RingEnd {
 public:
  __device__ RingEnd(const unsigned char* slots, const RingBarriers<kSlots>& barriers)
      : slots_(SharedAddress(slots)),
        filled_(SharedAddress(barriers.filled)),
        read_(SharedAddress(barriers.read)) {}

 protected:
  __device__ uint32_t slot() const { return slots_ + index_ * kSlotBytes; }
  __device__ uint32_t filled() const { return filled_ + index_ * 8; }
  __device__ uint32_t read() const { return read_ + index_ * 8; }
  __device__ void Advance() {
    if (++index_ == kSlots) index_ = 0, parity_ ^= 1;
  }
  uint32_t parity_ = 0;

 private:
  const uint32_t slots_, filled_, read_;
  int index_ = 0;
};

template <int kSlots>
class RingReader : public RingEnd<kSlots> {
 public:
  using RingEnd<kSlots>::RingEnd;
  // The address of the next slot, filled.
  __device__ uint32_t Await() const {
    while (!PhaseIsOver(this->filled(), this->parity_)) {
    }
    return this->slot();
  }
  // The warp has read it.
  __device__ void Release() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(this->read()) : "memory");
    }
    this->Advance();
  }
};

// Source, whose functions are told the Context: `Advance(context)` goes to the first or next thing to
// read, `bool done(context)` says that there is none, and `bool Issue(context, slot)` starts the copies
// of its next slot to a shared address and says whether that was its last one.
template <class Source, int kSlots>
class RingFiller : public RingEnd<kSlots> {
 public:
  __device__ RingFiller(const unsigned char* slots, const RingBarriers<kSlots>& barriers,
                        const Source& source)
      : RingEnd<kSlots>(slots, barriers), source_(source) {}

  // Fills slots as they have been read, until there is nothing more.
  template <class Context>
  __device__ void Run(const Context& context) {
#pragma unroll 1
    for (bool advances = true;;) {
      if (advances) source_.Advance(context);
      if (source_.done(context)) return;
      while (!PhaseIsOver(this->read(), this->parity_ ^ 1)) {
      }
      advances = source_.Issue(context, this->slot());
      asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(this->filled())
                   : "memory");
      this->Advance();
    }
  }

 private:
  Source source_;
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

// kInputs of a slot: c += 16 inputs after the other. All is loaded before the first product, since
// instructions in assembly keep their order. Rows 8 to 15 of the left side repeat rows 0 to 7,
// and nobody looks at what comes of them.
template <int kInputs>
__device__ inline void MultiplyPart(uint32_t w, uint32_t x, Accumulator& c) {
  uint32_t weights[kInputs / 32 + 1][4], rows[kInputs / 16][4];
#pragma unroll
  for (int i = 0; i < kInputs; i += 32) LoadMatrices(w + i * 2, weights[i / 32]);
#pragma unroll
  for (int i = 0; i < kInputs; i += 16) LoadMatrices(x + i * 2, rows[i / 16]);
#pragma unroll
  for (int i = 0; i < kInputs / 16; ++i) {
    Mma(c, rows[i][0], rows[i][1], rows[i][2], rows[i][3], weights[i / 2][i % 2 * 2],
        weights[i / 2][i % 2 * 2 + 1]);
  }
}

// sums (lane (g, t): row g, outputs 2t and 2t + 1 of the strip) = rows of x times the next strip: 16
// inputs after the other, into one sum. x: shared address of this lane's part, see XAddress.
template <class Ring>
__device__ void MultiplyStrip(Ring& ring, int inputs, uint32_t x, float (&sums)[2]) {
  const int lane = threadIdx.x % 32;
  Accumulator c;
#pragma unroll 1
  for (int k = 0; k < inputs; k += kSlotInputs) {
    const uint32_t w = ring.Await() + lane % 8 * kSlotRowBytes + lane / 8 * 16;
    const int count = min(kSlotInputs, inputs - k);
    if (count == kSlotInputs) {
#pragma unroll
      for (int i = 0; i < kSlotInputs; i += 128) MultiplyPart<128>(w + i * 2, x + i * 2, c);
    } else {
      int i = 0;
#pragma unroll 1
      for (; i + 64 <= count; i += 64) MultiplyPart<64>(w + i * 2, x + i * 2, c);
#pragma unroll 1
      for (; i < count; i += 16) MultiplyPart<16>(w + i * 2, x + i * 2, c);
    }
    x += kSlotInputs * 2;
    ring.Release();
  }
  sums[0] = c.c[0];
  sums[1] = c.c[1];
}
// Of a lane's part of 8 rows of x that lie row_bytes apart (16 more than a multiple of 128); rows
// from `rows` on repeat the last. Lanes give the rows of inputs 0 to 7, twice, and of 8 to 15, twice.
__device__ inline uint32_t XAddress(const void* x, int row_bytes, int rows) {
  const int lane = threadIdx.x % 32;
  return SharedAddress(x) + min(lane % 8, rows - 1) * row_bytes + lane / 16 * 16;
}

}  // namespace pregate::cuda

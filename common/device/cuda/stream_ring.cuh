// What a warp reads of the model, on its way into shared memory: a ring of slots that another warp
// fills in order by asynchronous copies. It runs ahead of the work as far as it has slots, whatever the
// work waits for meanwhile: where the next bytes lie depends on nothing that a step computes.
#pragma once

#include <cstddef>

#include "common/device/cuda/mma.cuh"
#include "common/device/cuda/wait_limit.cuh"

namespace pregate::cuda {

// A slot takes 4 KB: 128 inputs of 16 rows of weights, or 256 of 8. Rows lie 16 bytes further apart
// than they are long, so that eight of them meet different banks.
template <int kRows>
struct SlotShape {
  static constexpr int kInputs = 2048 / kRows;
  static constexpr int kRowBytes = kInputs * 2 + 16;
};
inline constexpr int kSlotBytes = 16 * SlotShape<16>::kRowBytes;

// Warps that read rings need more registers than those that fill them. All warps of a warpgroup call the
// same, and the fillers give before the readers get.
template <int kRegisters>
__device__ void TakeMoreRegisters() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
__device__ void KeepFewerRegisters() {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}

// The shared memory of a ring; its slots lie elsewhere.
template <int kSlots>
struct RingBarriers {
  WaitDeadline deadline;
  uint64_t filled[kSlots], read[kSlots];

  // By one thread; the block synchronizes afterwards. How many threads fill a slot, and how many warps
  // read it.
  __device__ void Init(const WaitLimit& waits, int fillers = 32, int readers = 1) {
    deadline.Begin(waits);
    for (int i = 0; i < kSlots; ++i) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(filled + i)),
                   "r"(fillers)
                   : "memory");
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(read + i)),
                   "r"(readers)
                   : "memory");
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");  // for bulk copies
  }
};

// Whether the barrier's phase of this parity is over; waits for some time.
__device__ inline bool PhaseIsOver(uint32_t barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; "
      "selp.u32 %0, 1, 0, p; }"
      : "=r"(over)
      : "r"(barrier), "r"(parity)
      : "memory");
  return over != 0;
}

// A warp's place in a ring of kSlots, of kBytes each.
template <int kSlots, int kBytes = kSlotBytes>
class RingEnd {
 public:
  __device__ RingEnd(const unsigned char* slots, const RingBarriers<kSlots>& barriers)
      : slots_(SharedAddress(slots)), barriers_(SharedAddress(&barriers)) {}

  // Shared address of the WaitDeadline.
  __device__ uint32_t deadline() const {
    static_assert(offsetof(RingBarriers<kSlots>, deadline) == 0);
    return barriers_;
  }

 protected:
  __device__ uint32_t slot() const { return slots_ + index_ * kBytes; }
  __device__ uint32_t filled() const {
    return barriers_ + index_ * 8 + offsetof(RingBarriers<kSlots>, filled);
  }
  __device__ uint32_t read() const { return filled() + kSlots * 8; }
  __device__ void Advance() {
    if (++index_ == kSlots) index_ = 0, parity_ ^= 1;
  }
  __device__ void AwaitFilled() const { AwaitSlot(WaitFor::kFilledSlot, filled(), parity_); }
  __device__ void AwaitRead() const { AwaitSlot(WaitFor::kReadSlot, read(), parity_ ^ 1); }

 private:
  __device__ void AwaitSlot(WaitFor what, uint32_t barrier, uint32_t parity) const {
    AwaitWithin(deadline(), what, [&] { return PhaseIsOver(barrier, parity); });
  }

  const uint32_t slots_, barriers_;
  uint32_t parity_ = 0;
  int index_ = 0;
};

template <int kSlots, int kBytes = kSlotBytes>
class RingReader : public RingEnd<kSlots, kBytes> {
 public:
  using RingEnd<kSlots, kBytes>::RingEnd;
  // The address of the next slot, filled.
  __device__ uint32_t Await() const {
    this->AwaitFilled();
    return this->slot();
  }
  // The warp has read it.
  __device__ void Release() { Free(Leave()); }
  // The same in two steps: goes on to the next slot, and what the warp frees later.
  __device__ uint32_t Leave() {
    const uint32_t barrier = this->read();
    this->Advance();
    return barrier;
  }
  __device__ static void Free(uint32_t barrier) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
    }
  }
};

// Source, whose functions are told the Context: `Advance(context)` goes to the first or next thing to
// read, `bool done(context)` says that there is none, and `bool Issue(context, slot)` starts the copies
// of its next slot to a shared address and says whether that was its last one.
template <class Source, int kSlots, int kBytes = kSlotBytes>
class RingFiller : public RingEnd<kSlots, kBytes> {
 public:
  __device__ RingFiller(const unsigned char* slots, const RingBarriers<kSlots>& barriers,
                        const Source& source)
      : RingEnd<kSlots, kBytes>(slots, barriers), source_(source) {}

  // Fills slots as they have been read, until there is nothing more.
  template <class Context>
  __device__ void Run(const Context& context) {
#pragma unroll 1
    for (bool advances = true;;) {
      if (advances) source_.Advance(context);
      if (source_.done(context)) return;
      this->AwaitRead();
      advances = source_.Issue(context, this->slot());
      asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(this->filled())
                   : "memory");
      this->Advance();
    }
  }

 private:
  Source source_;
};

// The filling end where one thread starts bulk copies: Init(1, readers).
template <int kSlots, int kBytes>
class BulkFiller : public RingEnd<kSlots, kBytes> {
 public:
  using RingEnd<kSlots, kBytes>::RingEnd;
  // issue(slot, barrier) starts copies of `bytes` into the next slot that is free.
  template <class F>
  __device__ void Fill(int bytes, const F& issue) {
    this->AwaitRead();
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(this->filled()),
                 "r"(bytes)
                 : "memory");
    issue(this->slot(), this->filled());
    this->Advance();
  }
};

// Rows of weights, times up to eight rows of x: 16, of which 0 to 7 and 8 to 15 lie together, or 8.
// A strip of 8 is twice as long on its way, but twice as many warps have one.
struct Strip {
  const Bf16 *first = nullptr, *second = nullptr;  // second null: 8 rows
  int inputs = 0;  // a multiple of 16, and the elements from row to row
  int issued = 0;

  __device__ bool done() const { return issued >= inputs; }
  __device__ void Issue(uint32_t slot) {
    second != nullptr ? IssueRows<16>(slot) : IssueRows<8>(slot);
  }

 private:
  // A copy of the warp takes 64 inputs of four rows.
  template <int kRows>
  __device__ void IssueRows(uint32_t slot) {
    using Shape = SlotShape<kRows>;
    const int lane = threadIdx.x % 32, row = lane / 8, k = lane % 8 * 8;
    const int left = inputs - issued - k;
    const int64_t at = int64_t{row} * inputs + issued + k;
    const uint32_t to = slot + row * Shape::kRowBytes + k * 2;
#pragma unroll
    for (int r = 0; r < kRows / 4; ++r) {
      const Bf16* rows = (r < 2 ? first : second) + at + r % 2 * 4 * inputs;
#pragma unroll
      for (int i = 0; i < Shape::kInputs / 64; ++i) {
        if (i * 64 < left) CopyAsync16(to + 4 * r * Shape::kRowBytes + i * 128, rows + i * 64);
      }
    }
    issued += Shape::kInputs;
  }
};

// kInputs of a slot: c += 16 inputs after the other. All is loaded before the first product, since
// instructions in assembly keep their order.
template <int kInputs>
__device__ inline void MultiplyPart(uint32_t w, uint32_t x, Accumulator& c) {
  uint32_t weights[kInputs / 16][4], rows[(kInputs + 31) / 32][4];
#pragma unroll
  for (int i = 0; i < kInputs; i += 16) LoadMatrices(w + i * 2, weights[i / 16]);
#pragma unroll
  for (int i = 0; i < kInputs; i += 32) LoadMatrices(x + i * 2, rows[i / 32]);
#pragma unroll
  for (int i = 0; i < kInputs / 16; ++i) {
    Mma(c, weights[i][0], weights[i][1], weights[i][2], weights[i][3], rows[i / 2][i % 2 * 2],
        rows[i / 2][i % 2 * 2 + 1]);
  }
}

// What a lane has of a strip's sums, 16 inputs after the other in each: two neighbouring outputs of
// one row of x, of rows 0 to 7 and of 8 to 15 of the strip.
struct StripSums {
  float2 first = {0, 0}, second = {0, 0};

  // Of x; beyond the rows that there are, for some lanes.
  __device__ static int row() { return threadIdx.x % 4 * 2 + threadIdx.x / 4 % 2; }
  // The outputs are output() and the next one.
  __device__ static int output() { return threadIdx.x % 32 / 8 * 2; }
};

// The next strip, of kRows, times the rows of x. x: shared address of this lane's part, see XAddress.
template <int kRows, class Ring>
__device__ StripSums MultiplyStrip(Ring& ring, int inputs, uint32_t x) {
  using Shape = SlotShape<kRows>;
  constexpr int kPart = 128;
  const int lane = threadIdx.x % 32;
  const uint32_t mine = lane % kRows % 16 * Shape::kRowBytes + lane / 16 * 16;
  Accumulator c;
#pragma unroll 1
  for (int k = 0; k < inputs; k += Shape::kInputs) {
    const uint32_t w = ring.Await() + mine;
    const int count = min(Shape::kInputs, inputs - k);
    if (count == Shape::kInputs) {
#pragma unroll
      for (int i = 0; i < Shape::kInputs; i += kPart) MultiplyPart<kPart>(w + i * 2, x + i * 2, c);
    } else {
#pragma unroll 1
      for (int i = 0; i < count; i += 16) MultiplyPart<16>(w + i * 2, x + i * 2, c);
    }
    x += Shape::kInputs * 2;
    ring.Release();
  }
  StripSums sums;
  sums.first = NeighbourOutputs(c.c[0], c.c[1]);
  sums.second = NeighbourOutputs(c.c[2], c.c[3]);
  return sums;
}

// Of a lane's part of 8 rows of x that lie row_bytes apart (16 more than a multiple of 128); rows
// from `rows` on repeat the last.
__device__ inline uint32_t XAddress(const void* x, int row_bytes, int rows) {
  const int lane = threadIdx.x % 32;
  return SharedAddress(x) + min(lane % 8, rows - 1) * row_bytes + lane / 8 * 16;
}

}  // namespace pregate::cuda

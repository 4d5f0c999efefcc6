// Waits inside a kernel. Threads of a kernel wait for others of it: for blocks, or for slots of a ring. Such
// a wait is over within microseconds; where it is not, whoever is waited for has stopped, and the card
// would never be free again. So each has a limit (wait_limit.cuh): whoever reaches it writes down in
// the host's memory, which can be read when the card answers no more, what waited for what, and ends
// the grid by a trap. The process has then lost the card.
#pragma once

#include <cstdint>
#include <string>

namespace pregate::cuda {

// Kernels with such waits.
enum class WaitingKernel {
  kStep,
  kSplitAttention,
  kWarpgroupAttention,
  kRingMatmul,
  kClusterMatmul,
  kCount
};
enum class WaitFor : uint32_t { kBlocks = 1, kTiles, kFilledSlot, kReadSlot };

inline constexpr uint32_t kWaitTickNsLog2 = 20;  // a tick is 2^20 ns, about a millisecond
// 10.5 s: others that share the card, or a tool that looks at each instruction, may hold a kernel up long.
inline constexpr uint32_t kWaitLimitTicks = 10'000;

// Of a kernel's launch.
struct WaitLimit {
  // Host memory that the card writes: 0, or StuckWord of a wait that did not end. Null: nobody wants to
  // know.
  uint64_t* stuck;
  uint32_t ticks;
};

// Of a block of the grid, in columns (x) and rows (y, below 2^24).
constexpr uint64_t StuckWord(WaitFor what, uint32_t x, uint32_t y) {
  return uint64_t{static_cast<uint32_t>(what) << 24 | y} << 32 | x;
}
// What the words [kCount] of all kernels say: "the step kernel's block 17, 0 waited ...". Empty where all
// are 0.
std::string StuckWaitText(const uint64_t* stuck);

}  // namespace pregate::cuda

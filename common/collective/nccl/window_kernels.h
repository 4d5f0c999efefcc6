// One exchange between the cards of a group as one kernel: rows go straight into the peers' memory
// over NVLink, with no call of NCCL and no host between them. Plain arguments only.
//
// Each rank has a window that its peers can write, laid out alike on all of them:
//
//   arrived  [ranks, blocks] of uint32   the last exchange whose rows from that rank's block are here
//   left     [ranks] of uint32           not 0: that rank has left the group
//   rows     [2, ranks, message_bytes]   by the exchange's parity and the source
//
// A block writes its share of each message into its target's window, then its own word in `arrived`
// there, with the exchange's number; then it waits for its peers' words and copies their shares out.
// Every rank writes to and waits for all others in every exchange, messages of no bytes included:
// so a rank that has seen number n of a peer knows that the peer has read all of number n - 1, and two
// halves are enough.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstddef>
#include <cstdint>

namespace pregate::nccl {

inline constexpr int kWindowRanksMax = 64;
inline constexpr int kWindowBlocks = 64;   // all of them run at once: they wait for each other
inline constexpr size_t kWindowUnit = 16;  // bytes; what addresses and sizes are multiples of
inline constexpr size_t kWindowLeftAt = sizeof(uint32_t) * kWindowRanksMax * kWindowBlocks;
inline constexpr size_t kWindowRowsAt = 64 << 10;
static_assert(kWindowLeftAt + sizeof(uint32_t) * kWindowRanksMax <= kWindowRowsAt);

constexpr size_t WindowBytes(int world_size, size_t message_bytes) {
  return kWindowRowsAt + 2 * static_cast<size_t>(world_size) * message_bytes;
}

// Why an exchange gave up.
enum WindowEnd : uint32_t { kWindowRuns = 0, kWindowAborted, kWindowPeerLeft, kWindowTimeout };

struct Window {
  int rank = 0;
  int world_size = 0;
  size_t message_bytes = 0;           // of one source in one exchange at most
  char* peers[kWindowRanksMax] = {};  // each rank's window; this one's own among them
  // In this card's memory, zero at first: the exchanges so far, blocks that have ended, and why one
  // gave up, after which all later ones end at once.
  uint32_t* count = nullptr;
  uint32_t* ended = nullptr;
  uint32_t* why = nullptr;
  // In host memory that the card reaches: the host asks for the end; the card says {why, rank}.
  const volatile uint32_t* abort = nullptr;
  volatile uint32_t* outcome = nullptr;
  uint64_t timeout_ns = 0;
};

// Bytes of and for one rank, in memory that this card reaches. Multiples of kWindowUnit, at most
// message_bytes between two ranks; the own part is copied.
struct WindowMessage {
  const char* send = nullptr;
  char* recv = nullptr;
  size_t send_bytes = 0;
  size_t recv_bytes = 0;
};
struct WindowMessages {
  WindowMessage of[kWindowRanksMax];  // by rank
};

cudaError_t LaunchWindowExchange(const Window& window, const WindowMessages& messages,
                                 cudaStream_t stream);

// What a registered window says of itself: the ranks' addresses, in `peers` (host memory that the
// card reaches), and this rank's index among those that can reach each other.
cudaError_t LaunchWindowAddresses(ncclWindow_t window, int world_size, char** peers, int* index,
                                  cudaStream_t stream);

}  // namespace pregate::nccl

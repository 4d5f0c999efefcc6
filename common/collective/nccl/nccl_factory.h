// Collectives between GPUs (NCCL), one card a rank: NCCL refuses two ranks on one card.
//
// The rendezvous is the ncclUniqueId in hex: NCCL's own bootstrap listens at the rank that made it,
// so no Meeting is needed and Join cannot name the missing ranks. Run with NCCL_NVLS_ENABLE=0:
// NVLink multicast is of no use to send/recv and fails on some hosts. NCCL_SOCKET_IFNAME binds its
// bootstrap and its TCP transport; like Gloo's they are neither authenticated nor encrypted.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "common/collective/collective.h"

namespace pregate {

struct NcclOptions {
  int device = 0;                 // CUDA ordinal
  cudaStream_t stream = nullptr;  // what AllToAll enqueues on; outlives the groups
  absl::Duration operation_timeout = kCollectiveTimeout;
  bool windows = false;  // used where all ranks ask for them and have them
};

// The groups' AllToAll takes device memory and may be captured in a CUDA graph of `stream`, with
// its offsets frozen. Capture needs one exchange between the same pairs before it: NCCL connects
// on first use, which allocates. A graph belongs to its group. bytes_sent counts calls, not
// replays.
//
// With windows rows go straight into the peers' memory (window_kernels.h), where all ranks reach each
// other's; NCCL then only makes and ends groups, and carries what is larger than 8 MiB between two
// ranks. An exchange then needs none before it to be captured, and Abort reaches the peers at once.
//
// What a peer's death or stall leaves running on the card is ended by Wait, which polls the stream
// and gives up after the timeout, or at once after Abort; so the engine waits with it, never with
// cudaStreamSynchronize.
std::unique_ptr<CollectiveFactory> MakeNcclFactory(const NcclOptions& options);

}  // namespace pregate

// Ranks that exchange bytes: what carries activations between workers (docs/CONTRACTS.md,
// "Exchange plan").
//
//   implementation      ranks are                 send / recv are   AllToAll
//   local/local_fabric  threads of one process    host memory       done when it returns
//   gloo/               processes, over TCP       host memory       done when it returns
//   nccl/               processes, one GPU each   device memory     enqueued on the group's stream
//
// One contract test runs on all of them (collective_contract.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace pregate {

// One rank's end of a group. One thread calls it (only Abort is thread-safe), and every rank calls
// the same operations in the same order with sizes that agree: both follow from the step plan.
//
// An operation that cannot finish returns an error within the group's timeout and never hangs:
// UNAVAILABLE when a peer left or died, DEADLINE_EXCEEDED when it stalled, ABORTED after Abort,
// INVALID_ARGUMENT for its own arguments, with the vendor's text. Any error ends the group: what a
// failed operation wrote is undefined, every later call returns that first error, and peers get one
// of their own, at the latest when their timeout is over. A new group needs a new rendezvous.
class Collective {
 public:
  // Leaves the group. An operation that has returned here may still run at a peer and then fails
  // there, so a group ends where nobody needs its last operation any more (a new epoch).
  virtual ~Collective() = default;

  virtual int rank() const = 0;                // 0 .. world_size() - 1
  virtual int world_size() const = 0;          // >= 1
  virtual absl::string_view name() const = 0;  // "local", "gloo", "nccl": for logs and errors

  // all[r * bytes .. (r + 1) * bytes) = rank r's `mine`. Host memory, done when it returns; `mine`
  // may lie at its place in `all`. For small control data, once a step.
  virtual absl::Status AllGather(const void* mine, size_t bytes, void* all) = 0;

  // Rows of `row_bytes`. Rank d gets send rows [send_offsets[d], send_offsets[d + 1]); what comes
  // from source s lands in recv rows [recv_offsets[s], recv_offsets[s + 1]). Both are host arrays
  // of world_size + 1 entries, >= 0 and ascending; a pair's two counts are equal, the own part is
  // copied. A count of 0 sends no row; where AllToAll enqueues, ranks may wait for each other all the
  // same. send and recv do not overlap.
  virtual absl::Status AllToAll(const void* send, absl::Span<const int32_t> send_offsets,
                                void* recv, absl::Span<const int32_t> recv_offsets,
                                size_t row_bytes) = 0;

  // Blocks until everything enqueued on the group's stream is done, replays of captured graphs
  // included; at once where AllToAll is done when it returns. The group's status.
  virtual absl::Status Wait() = 0;

  // Thread-safe, idempotent, does not wait: the running and all later operations of this rank
  // return ABORTED, its peers' fail. What a new epoch does to the old one's group.
  virtual void Abort() = 0;

  // True: AllToAll only enqueues, so the host's clock does not say how long it takes.
  virtual bool enqueues() const = 0;

  // Payload sent to other ranks so far by operations that began, without the transport's headers.
  virtual int64_t bytes_sent() const = 0;
};

// Makes groups. Thread-safe; outlives what it made.
class CollectiveFactory {
 public:
  virtual ~CollectiveFactory() = default;

  // Called by one rank of the group to be; the other ranks get the bytes from it. Opaque, at most
  // kRendezvousBytesMax, good for one Join of each rank.
  virtual absl::StatusOr<std::string> MakeRendezvous() = 0;

  // Blocks until all ranks are there. DEADLINE_EXCEEDED names the missing ranks where they are
  // known; INVALID_ARGUMENT, NOT_FOUND or ALREADY_EXISTS for a rank out of range, a rendezvous that
  // is malformed or used up, a rank taken twice. ABORTED as soon as `stop` asks for it: whoever
  // waits for a rank that has died must not wait out its time.
  virtual absl::StatusOr<std::unique_ptr<Collective>> Join(const std::string& rendezvous, int rank,
                                                           int world_size, absl::Duration timeout,
                                                           std::stop_token stop) = 0;
};

inline constexpr absl::Duration kCollectiveTimeout = absl::Seconds(10);  // of one operation

}  // namespace pregate

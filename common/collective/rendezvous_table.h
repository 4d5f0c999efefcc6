// The one place where the ranks of a meeting are matched, without a thread or a clock of its own:
// InProcessMeeting blocks on it, the worker's Meet RPC (expert_service/edge) answers from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"

namespace pregate {

struct MeetingLimits {
  int meetings_max = 8;  // open at once; the oldest ends when one more is opened
  int world_size_max = 256;
  size_t blob_bytes_max = 64 << 10;
};

// Thread-safe. Callbacks run without the lock, on the thread whose call decided the meeting.
class RendezvousTable {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<std::string>> blobs)>;
  using Ticket = uint64_t;

  explicit RendezvousTable(MeetingLimits limits) : limits_(limits) {}
  ~RendezvousTable();  // who still waits gets CANCELLED

  // Opens a meeting and returns its token: 128 random bits, 32 hex digits.
  std::string Open();

  // Calls `done` exactly once, perhaps before it returns: with the blobs of all ranks, or why not
  // (see Meeting::Meet).
  Ticket Enter(const std::string& token, int rank, int world_size, std::string blob, Done done);

  // The rank gives up; ends its meeting for all with `code` and the missing ranks. Does nothing
  // when the meeting is over.
  void Leave(Ticket ticket, absl::StatusCode code);

 private:
  struct Waiter {
    Ticket ticket;
    std::string blob;
    Done done;
  };
  struct Group {
    uint64_t number;                             // in order of Open
    std::vector<std::optional<Waiter>> waiters;  // by rank; empty until the first enters
    int num_present = 0;
  };
  using Groups = std::map<std::string, Group>;

  absl::Status Check(const Groups::iterator& group, int rank, int world_size,
                     const std::string& blob) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Group Take(Groups::iterator group) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const MeetingLimits limits_;
  std::mutex mutex_;
  Ticket last_ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t last_group_ ABSL_GUARDED_BY(mutex_) = 0;
  Groups groups_ ABSL_GUARDED_BY(mutex_);  // by token
};

}  // namespace pregate

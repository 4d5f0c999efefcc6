// How ranks find each other before they have a transport: an all-gather of small blobs (addresses).
#pragma once

#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/collective/rendezvous_table.h"

namespace pregate {

// Thread-safe.
class Meeting {
 public:
  virtual ~Meeting() = default;

  // Opens one meeting at this process; the string says where it is and is good for one Meet of each
  // rank.
  virtual absl::StatusOr<std::string> MakeRendezvous() = 0;

  // Blocks until every rank of the meeting has called it; blobs[r] is rank r's. The first rank
  // whose timeout passes ends the meeting for all, with DEADLINE_EXCEEDED and the missing ranks.
  // NOT_FOUND: over, replaced or never made here. INVALID_ARGUMENT, ALREADY_EXISTS: this caller's
  // rank, world size or blob; the others go on waiting. ABORTED, and UNAVAILABLE at the others, as
  // soon as `stop` asks for it.
  virtual absl::StatusOr<std::vector<std::string>> Meet(const std::string& rendezvous, int rank,
                                                        int world_size, const std::string& blob,
                                                        absl::Duration timeout,
                                                        std::stop_token stop) = 0;
};

// Meetings of threads of one process: for tests, and for groups that are local anyway.

// Thread-safe. A rendezvous is good at the object that made it.
class InProcessMeeting final : public Meeting {
 public:
  explicit InProcessMeeting(MeetingLimits limits = {}) : table_(limits) {}

  absl::StatusOr<std::string> MakeRendezvous() override { return table_.Open(); }
  absl::StatusOr<std::vector<std::string>> Meet(const std::string& rendezvous, int rank,
                                                int world_size, const std::string& blob,
                                                absl::Duration timeout,
                                                std::stop_token stop) override;

 private:
  RendezvousTable table_;
};

}  // namespace pregate

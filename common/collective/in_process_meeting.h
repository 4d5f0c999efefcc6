// Meetings of threads of one process: for tests, and for groups that are local anyway.
#pragma once

#include "common/collective/meeting.h"
#include "common/collective/rendezvous_table.h"

namespace pregate {

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

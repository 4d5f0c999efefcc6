// A Meeting over ExpertWorker.Meet. The rendezvous is "host:port/token" (or "unix:/path/token"):
// where the lowest member listens, and which of its meetings.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/collective/meeting.h"
#include "common/collective/rendezvous_table.h"
#include "common/config/address.h"
#include "common/tls/grpc/security.h"

namespace pregate {

// Thread-safe. Meet blocks the calling thread, dials anew each time, and retries a host that does
// not listen yet until its timeout (at most kMeetTimeoutMsMax) is over.
class MeetClient final : public Meeting {
 public:
  // `table` answers the calls at `own` (see MeetService). `security` outlives the client.
  MeetClient(std::shared_ptr<RendezvousTable> table, Address own, const Security* security)
      : table_(std::move(table)), own_(std::move(own)), security_(security) {}

  absl::StatusOr<std::string> MakeRendezvous() override;
  absl::StatusOr<std::vector<std::string>> Meet(const std::string& rendezvous, int rank,
                                                int world_size, const std::string& blob,
                                                absl::Duration timeout,
                                                std::stop_token stop) override;

 private:
  const std::shared_ptr<RendezvousTable> table_;
  const Address own_;
  const Security* const security_;
};

}  // namespace pregate

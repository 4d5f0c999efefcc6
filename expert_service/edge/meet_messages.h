// What workers tell each other to form a group, checked: it comes from outside.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/collective/rendezvous_table.h"
#include "common/config/address.h"
#include "pregate/v1/worker.pb.h"

namespace pregate {

struct MeetRendezvous {
  Address host;       // on this machine where Meet is plaintext
  std::string token;  // 32 lower-case hex digits

  std::string ToString() const;
};

// INVALID_ARGUMENT when it is longer than kRendezvousBytesMax, its address has no port or, unless
// `encrypted`, is none of this machine's, or its token is malformed.
absl::StatusOr<MeetRendezvous> ParseMeetRendezvous(absl::string_view text, bool encrypted);

// The limits of common/config as a table has them.
MeetingLimits MeetLimits();

// The time to wait. All else is checked by the table.
absl::Status CheckMeetRequest(const v1::MeetRequest& request);

// A blob for each rank, none too long. INTERNAL otherwise.
absl::Status CheckMeetResponse(const v1::MeetResponse& response, int world_size);

}  // namespace pregate

#include "expert_service/edge/meet_messages.h"

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr size_t kTokenDigits = 32;

// The text is not repeated: it may be anything.
absl::Status BadRendezvous(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("rendezvous: ", why));
}

bool IsToken(absl::string_view text) {
  return text.size() == kTokenDigits &&
         text.find_first_not_of("0123456789abcdef") == absl::string_view::npos;
}

}  // namespace

std::string MeetRendezvous::ToString() const { return absl::StrCat(host.ToString(), "/", token); }

absl::StatusOr<MeetRendezvous> ParseMeetRendezvous(absl::string_view text, bool encrypted) {
  if (text.size() > static_cast<size_t>(kRendezvousBytesMax)) {
    return BadRendezvous(absl::StrCat(text.size(), " bytes, at most ", kRendezvousBytesMax));
  }
  const size_t slash = text.rfind('/');
  if (slash == absl::string_view::npos || !IsToken(text.substr(slash + 1))) {
    return BadRendezvous("no token of 32 hex digits at its end");
  }
  const absl::StatusOr<Address> host = ParseAddress(text.substr(0, slash));
  if (!host.ok()) return BadRendezvous("no address before the token");
  if (!encrypted && !StaysOnThisMachine(*host)) {
    return BadRendezvous("the address is not on this machine, which plaintext does not leave");
  }
  if (host->is_wildcard()) return BadRendezvous("the address is a wildcard, which none can dial");
  if (!host->is_unix() && host->port == 0) return BadRendezvous("port 0");
  return MeetRendezvous{*host, std::string(text.substr(slash + 1))};
}

MeetingLimits MeetLimits() {
  return {.meetings_max = kMeetingsMax,
          .world_size_max = kWorkersMax,
          .blob_bytes_max = kMeetBlobBytesMax};
}

absl::Status CheckMeetRequest(const v1::MeetRequest& request) {
  const int32_t timeout_ms = request.timeout_ms();
  if (timeout_ms >= 1 && timeout_ms <= kMeetTimeoutMsMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("timeout_ms ", timeout_ms, " is not 1 to ", kMeetTimeoutMsMax));
}

absl::Status CheckMeetResponse(const v1::MeetResponse& response, int world_size) {
  if (response.blobs_size() != world_size) {
    return absl::InternalError(
        absl::StrCat("meeting: ", response.blobs_size(), " blobs for a world of ", world_size));
  }
  for (int rank = 0; rank < world_size; ++rank) {
    const size_t size = response.blobs(rank).size();
    if (size <= static_cast<size_t>(kMeetBlobBytesMax)) continue;
    return absl::InternalError(absl::StrCat("meeting: blobs[", rank, "] has ", size,
                                            " bytes, at most ", kMeetBlobBytesMax));
  }
  return absl::OkStatus();
}

}  // namespace pregate

#include "expert_service/edge/meet_client.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/config/limits.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "pregate/v1/worker.grpc.pb.h"

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

absl::Status CheckBlobs(const v1::MeetResponse& response, int world_size) {
  if (response.blobs_size() != world_size) {
    return absl::InternalError(
        absl::StrCat("meeting: ", response.blobs_size(), " blobs for a world of ", world_size));
  }
  for (const std::string& blob : response.blobs()) {
    if (blob.size() > static_cast<size_t>(kMeetBlobBytesMax)) {
      return absl::InternalError(absl::StrCat("meeting: a blob of ", blob.size(), " bytes"));
    }
  }
  return absl::OkStatus();
}

absl::Status Call(const Address& host, const Security& security, const v1::MeetRequest& request,
                  v1::MeetResponse* response, std::stop_token stop) {
  const auto stub = v1::ExpertWorker::NewStub(
      MakeChannel(host, kServiceMessageBytesMax, security, {Role::kWorker}));
  grpc::ClientContext context;
  // The host answers first, and knows who is missing; this is for a host that is silent.
  context.set_deadline(absl::ToChronoTime(
      absl::Now() + absl::Milliseconds(request.timeout_ms() + kMeetAnswerGraceMs)));
  context.set_wait_for_ready(true);
  std::promise<grpc::Status> done;
  stub->async()->Meet(&context, &request, response,
                      [&done](grpc::Status status) { done.set_value(std::move(status)); });
  const std::stop_callback on_stop(stop, [&context] { context.TryCancel(); });
  const absl::Status status = FromGrpcStatus(done.get_future().get());
  if (status.ok()) return status;
  if (stop.stop_requested()) return absl::AbortedError("meeting: stopped here");
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), " (meeting at ", host.ToString(), ")"));
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

absl::StatusOr<std::string> MeetClient::MakeRendezvous() {
  return MeetRendezvous{own_, room_->Open()}.ToString();
}

absl::StatusOr<std::vector<std::string>> MeetClient::Meet(const std::string& rendezvous, int rank,
                                                          int world_size, const std::string& blob,
                                                          absl::Duration timeout,
                                                          std::stop_token stop) {
  ASSIGN_OR_RETURN(const MeetRendezvous where,
                   ParseMeetRendezvous(rendezvous, security_->encrypted()));
  v1::MeetRequest request;
  request.set_token(where.token);
  request.set_rank(rank);
  request.set_world_size(world_size);
  request.set_blob(blob);
  request.set_timeout_ms(static_cast<int32_t>(
      std::clamp(absl::ToInt64Milliseconds(timeout), int64_t{1}, int64_t{kMeetTimeoutMsMax})));
  v1::MeetResponse response;
  RETURN_IF_ERROR(Call(where.host, *security_, request, &response, std::move(stop)));
  RETURN_IF_ERROR(CheckBlobs(response, world_size));
  return std::vector<std::string>(response.blobs().begin(), response.blobs().end());
}

}  // namespace pregate

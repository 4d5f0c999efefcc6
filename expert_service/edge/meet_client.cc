#include "expert_service/edge/meet_client.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <future>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "expert_service/edge/meet_messages.h"
#include "pregate/v1/worker.grpc.pb.h"

namespace pregate {
namespace {

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

absl::StatusOr<std::string> MeetClient::MakeRendezvous() {
  return MeetRendezvous{own_, table_->Open()}.ToString();
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
  RETURN_IF_ERROR(CheckMeetResponse(response, world_size));
  return std::vector<std::string>(response.blobs().begin(), response.blobs().end());
}

}  // namespace pregate

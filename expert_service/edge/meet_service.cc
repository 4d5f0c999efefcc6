#include "expert_service/edge/meet_service.h"

#include <grpcpp/alarm.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/config/limits.h"
#include "common/rpc/status.h"

namespace pregate {
namespace {

absl::Status CheckTimeout(int32_t timeout_ms) {
  if (timeout_ms >= 1 && timeout_ms <= kMeetTimeoutMsMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("timeout_ms ", timeout_ms, " is not 1 to ", kMeetTimeoutMsMax));
}

// One call. gRPC runs no reaction before the handler has returned, so the constructor's writes need
// no lock.
class Guest final : public grpc::ServerUnaryReactor {
 public:
  Guest(std::shared_ptr<MeetingRoom> room, const v1::MeetRequest& request,
        v1::MeetResponse* response)
      : room_(std::move(room)) {
    if (absl::Status bad = CheckTimeout(request.timeout_ms()); !bad.ok()) {
      Finish(ToGrpcStatus(bad));
      return;
    }
    ticket_ = room_->Enter(request.token(), request.rank(), request.world_size(), request.blob(),
                           [this, response](auto blobs) { Answer(std::move(blobs), response); });
    // The callback may outlive this call, and even the server: it holds the room only.
    alarm_.Set(absl::ToChronoTime(absl::Now() + absl::Milliseconds(request.timeout_ms())),
               [room = room_, ticket = ticket_](bool expired) {
                 if (expired) room->Leave(ticket, absl::StatusCode::kDeadlineExceeded);
               });
  }

 private:
  void Answer(absl::StatusOr<std::vector<std::string>> blobs, v1::MeetResponse* response) {
    if (blobs.ok()) {
      for (std::string& blob : *blobs) response->add_blobs(std::move(blob));
    }
    Finish(ToGrpcStatus(blobs.status()));
  }

  void OnCancel() override { room_->Leave(ticket_, absl::StatusCode::kUnavailable); }
  void OnDone() override { delete this; }  // its alarm is cancelled

  const std::shared_ptr<MeetingRoom> room_;
  MeetingRoom::Ticket ticket_ = 0;
  grpc::Alarm alarm_;
};

}  // namespace

MeetingLimits MeetLimits() {
  return {.meetings_max = kMeetingsMax,
          .world_size_max = kWorkersMax,
          .blob_bytes_max = kMeetBlobBytesMax};
}

grpc::ServerUnaryReactor* MeetService::Meet(const v1::MeetRequest* request,
                                            v1::MeetResponse* response) {
  return new Guest(room_, *request, response);
}

}  // namespace pregate

#include "expert_service/edge/meet_service.h"

#include <grpcpp/alarm.h>

#include "absl/time/clock.h"
#include "common/rpc/status.h"
#include "expert_service/edge/meet_messages.h"

namespace pregate {
namespace {

// One call. gRPC runs no reaction before the handler has returned, so the constructor's writes need
// no lock.
class Guest final : public grpc::ServerUnaryReactor {
 public:
  Guest(std::shared_ptr<MeetingRoom> room, const v1::MeetRequest& request,
        v1::MeetResponse* response)
      : room_(std::move(room)) {
    if (absl::Status bad = CheckMeetRequest(request); !bad.ok()) {
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

grpc::ServerUnaryReactor* MeetService::Meet(const v1::MeetRequest* request,
                                            v1::MeetResponse* response) {
  return new Guest(room_, *request, response);
}

}  // namespace pregate

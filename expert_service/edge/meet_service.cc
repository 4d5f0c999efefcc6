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
  Guest(std::shared_ptr<RendezvousTable> table, const v1::MeetRequest& request,
        v1::MeetResponse* response)
      : table_(std::move(table)) {
    if (absl::Status bad = CheckMeetRequest(request); !bad.ok()) {
      Finish(ToGrpcStatus(bad));
      return;
    }
    ticket_ = table_->Enter(request.token(), request.rank(), request.world_size(), request.blob(),
                            [this, response](auto blobs) { Answer(std::move(blobs), response); });
    // The callback may outlive this call, and even the server: it holds the table only.
    alarm_.Set(absl::ToChronoTime(absl::Now() + absl::Milliseconds(request.timeout_ms())),
               [table = table_, ticket = ticket_](bool expired) {
                 if (expired) table->Leave(ticket, absl::StatusCode::kDeadlineExceeded);
               });
  }

 private:
  void Answer(absl::StatusOr<std::vector<std::string>> blobs, v1::MeetResponse* response) {
    if (blobs.ok()) {
      for (std::string& blob : *blobs) response->add_blobs(std::move(blob));
    }
    Finish(ToGrpcStatus(blobs.status()));
  }

  void OnCancel() override { table_->Leave(ticket_, absl::StatusCode::kUnavailable); }
  void OnDone() override { delete this; }  // its alarm is cancelled

  const std::shared_ptr<RendezvousTable> table_;
  RendezvousTable::Ticket ticket_ = 0;
  grpc::Alarm alarm_;
};

}  // namespace

grpc::ServerUnaryReactor* MeetService::Meet(const v1::MeetRequest* request,
                                            v1::MeetResponse* response) {
  return new Guest(table_, *request, response);
}

}  // namespace pregate

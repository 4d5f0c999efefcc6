#include "scheduler_service/edge/worker_link.h"

#include <utility>

#include "common/base/status.h"
#include "common/rpc/worker_codec.h"

namespace pregate {

GrpcWorkerLink::GrpcWorkerLink(int32_t rank, std::string address,
                               const std::shared_ptr<grpc::Channel>& channel,
                               std::function<bool(EngineEvent)> push, const Log* log)
    : rank_(rank),
      address_(std::move(address)),
      push_(std::move(push)),
      log_(log),
      names_(channel),
      dialer_({.open = OpenOn(channel, "/pregate.v1.ExpertWorker/Attach"),
               .on_message = [this](const auto& response) { return OnMessage(response); },
               .on_down = [this](const absl::Status& why) { OnDown(why); },
               .on_dial_failed = [this](const absl::Status& why) { OnDialFailed(why); }}) {}

void GrpcWorkerLink::Send(ToWorker message) { dialer_.Send(EncodeToWorker(message)); }

absl::Status GrpcWorkerLink::OnMessage(const v1::AttachResponse& response) {
  ASSIGN_OR_RETURN(FromWorker message, DecodeFromWorker(response));
  if (push_(WorkerEvent{rank_, std::move(message)})) return absl::OkStatus();
  return absl::ResourceExhaustedError("the scheduler's inbox is full");
}

void GrpcWorkerLink::OnDown(const absl::Status& why) {
  dial_failure_logged_ = false;
  log_->Warn("worker lost", {{"rank", rank_}, {"address", address_}, {"reason", why.ToString()}});
  // Should the inbox be full, the next connection's Hello tells the engine as much.
  push_(WorkerDown{rank_, why.ToString()});
}

void GrpcWorkerLink::OnDialFailed(const absl::Status& why) {
  names_.Refresh();
  if (std::exchange(dial_failure_logged_, true)) return;
  log_->Info("worker not reachable yet",
             {{"rank", rank_}, {"address", address_}, {"reason", why.ToString()}});
}

}  // namespace pregate

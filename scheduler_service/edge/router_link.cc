#include "scheduler_service/edge/router_link.h"

#include <utility>

#include "common/base/status.h"
#include "common/rpc/router_codec.h"

namespace pregate {

GrpcRouterLink::GrpcRouterLink(std::string address, const std::shared_ptr<grpc::Channel>& channel,
                               std::function<bool(EngineEvent)> push, const Log* log)
    : address_(std::move(address)),
      push_(std::move(push)),
      log_(log),
      names_(channel),
      dialer_({.open = OpenOn(channel, "/pregate.v1.Router/Route"),
               .on_message = [this](const auto& response) { return OnMessage(response); },
               .on_down = [this](const absl::Status& why) { OnDown(why); },
               .on_dial_failed = [this](const absl::Status& why) { OnDialFailed(why); }}) {}

void GrpcRouterLink::Send(ToRouter message) { dialer_.Send(EncodeToRouter(message)); }

absl::Status GrpcRouterLink::OnMessage(const v1::RouteResponse& response) {
  ASSIGN_OR_RETURN(FromRouter message, DecodeFromRouter(response));
  if (push_(RouterEvent{std::move(message)})) return absl::OkStatus();
  return absl::ResourceExhaustedError("the scheduler's inbox is full");
}

void GrpcRouterLink::OnDown(const absl::Status& why) {
  dial_failure_logged_ = false;
  log_->Warn("router lost", {{"address", address_}, {"reason", why.ToString()}});
  // Should the inbox be full, the next connection's hello tells the engine as much.
  push_(RouterDown{why.ToString()});
}

void GrpcRouterLink::OnDialFailed(const absl::Status& why) {
  names_.Refresh();
  if (std::exchange(dial_failure_logged_, true)) return;
  log_->Info("router not reachable yet", {{"address", address_}, {"reason", why.ToString()}});
}

}  // namespace pregate

// The scheduler's end of a stream to a worker or to the router.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/stream_dialer.h"
#include "common/telemetry/log.h"
#include "scheduler_service/engine/links.h"

namespace pregate {

// What tells the two apart.
template <typename Response>
struct LinkKind {
  std::string name;     // "worker 3", for logs
  std::string address;  // where the channel leads, for logs
  std::string method;   // "/pregate.v1.Router/Route"
  std::function<absl::StatusOr<EngineEvent>(const Response&)> decode;
  std::function<EngineEvent(std::string reason)> down;
};

// Dials from construction on, again and again with backoff. What the peer says becomes events, its
// hello first on every connection; the end of one becomes a down event. Messages that do not decode
// and a full inbox end the connection. Thread-safe.
template <typename Response>
class GrpcLink {
 public:
  // `push` takes an event for the engine's inbox (false: full), on gRPC's threads and the link's
  // own, until the link is destroyed. `log` outlives the link.
  GrpcLink(LinkKind<Response> kind, const std::shared_ptr<grpc::Channel>& channel,
           std::function<bool(EngineEvent)> push, const Log* log)
      : kind_(std::move(kind)),
        push_(std::move(push)),
        log_(log),
        names_(channel),
        dialer_({.open = OpenOn(channel, kind_.method),
                 .on_message = [this](const Response& response) { return OnMessage(response); },
                 .on_down = [this](const absl::Status& why) { OnDown(why); },
                 .on_dial_failed = [this](const absl::Status& why) { OnDialFailed(why); }}) {}

  void Send(grpc::ByteBuffer message) { dialer_.Send(std::move(message)); }

 private:
  absl::Status OnMessage(const Response& response) {
    ASSIGN_OR_RETURN(EngineEvent event, kind_.decode(response));
    if (push_(std::move(event))) return absl::OkStatus();
    return absl::ResourceExhaustedError("the scheduler's inbox is full");
  }
  void OnDown(const absl::Status& why) {
    dial_failure_logged_ = false;
    log_->Warn(kind_.name + " lost", {{"address", kind_.address}, {"reason", why.ToString()}});
    // Should the inbox be full, the next connection's hello tells the engine as much.
    push_(kind_.down(why.ToString()));
  }
  void OnDialFailed(const absl::Status& why) {
    names_.Refresh();
    if (std::exchange(dial_failure_logged_, true)) return;
    log_->Info(kind_.name + " not reachable yet",
               {{"address", kind_.address}, {"reason", why.ToString()}});
  }

  const LinkKind<Response> kind_;
  const std::function<bool(EngineEvent)> push_;
  const Log* const log_;
  NameRefresh names_;
  bool dial_failure_logged_ = false;  // once for each outage; the dialer's thread only
  StreamDialer<Response> dialer_;     // last: its thread uses everything above
};

}  // namespace pregate

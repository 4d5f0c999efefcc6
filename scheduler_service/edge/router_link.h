// The scheduler's end of Router.Route.
#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <string>

#include "common/rpc/channel.h"
#include "common/rpc/stream_dialer.h"
#include "common/telemetry/log.h"
#include "pregate/v1/router.pb.h"
#include "scheduler_service/engine/links.h"

namespace pregate {

// Dials from construction on, again and again with backoff. What the router says becomes a
// RouterEvent, its hello first on every connection; the end of one becomes a RouterDown. Messages
// that do not decode and a full inbox end the connection: on the next one the engine asks again.
class GrpcRouterLink final : public RouterLink {
 public:
  // `address` is where `channel` leads, for logs. `push` takes an event for the engine's inbox
  // (false: full), on gRPC's threads and the link's own, until the link is destroyed. `log`
  // outlives the link.
  GrpcRouterLink(std::string address, const std::shared_ptr<grpc::Channel>& channel,
                 std::function<bool(EngineEvent)> push, const Log* log);

  void Send(ToRouter message) override;

 private:
  using Dialer = StreamDialer<v1::RouteRequest, v1::RouteResponse>;

  absl::Status OnMessage(const v1::RouteResponse& response);
  void OnDown(const absl::Status& why);
  void OnDialFailed(const absl::Status& why);

  const std::string address_;
  const std::function<bool(EngineEvent)> push_;
  const Log* const log_;
  NameRefresh names_;
  bool dial_failure_logged_ = false;  // once for each outage; the dialer's thread only
  Dialer dialer_;                     // last: its thread uses everything above
};

}  // namespace pregate

// The scheduler's end of ExpertWorker.Attach for one rank.
#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>

#include "common/rpc/channel.h"
#include "common/rpc/stream_dialer.h"
#include "common/telemetry/log.h"
#include "pregate/v1/worker.pb.h"
#include "scheduler_service/engine/links.h"

namespace pregate {

// Dials from construction on, again and again with backoff. What the worker says becomes a
// WorkerEvent, the end of a connection a WorkerDown. Messages that do not decode and a full inbox
// end the connection: the next one begins with a new epoch.
class GrpcWorkerLink final : public WorkerLink {
 public:
  // `address` is where `channel` leads, for logs. `push` takes an event for the engine's inbox
  // (false: full), on gRPC's threads and the link's own, until the link is destroyed. `log`
  // outlives the link.
  GrpcWorkerLink(int32_t rank, std::string address, const std::shared_ptr<grpc::Channel>& channel,
                 std::function<bool(EngineEvent)> push, const Log* log);

  void Send(ToWorker message) override;

 private:
  using Dialer = StreamDialer<v1::AttachRequest, v1::AttachResponse>;

  absl::Status OnMessage(const v1::AttachResponse& response);
  void OnDown(const absl::Status& why);
  void OnDialFailed(const absl::Status& why);

  const int32_t rank_;
  const std::string address_;
  const std::function<bool(EngineEvent)> push_;
  const Log* const log_;
  NameRefresh names_;
  bool dial_failure_logged_ = false;  // once for each outage; the dialer's thread only
  Dialer dialer_;                     // last: its thread uses everything above
};

}  // namespace pregate

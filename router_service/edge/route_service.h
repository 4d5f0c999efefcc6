// Router.Route over a router engine: each stream is a link of the engine. Messages are
// decoded here and queued for the engine's loop; nothing else happens.
#pragma once

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "common/rpc/reset_counter.h"
#include "common/rpc/server_stream.h"
#include "common/step/peer.h"
#include "common/step/route.h"
#include "common/telemetry/refusal_log.h"
#include "pregate/v1/router.grpc.pb.h"

namespace pregate {

// Thread-safe. `peer` outlives the service, which outlives its server.
class RouteService final : public v1::Router::WithRawCallbackMethod_Route<v1::Router::Service> {
 public:
  // A stream beyond `streams_max` open ones is refused with RESOURCE_EXHAUSTED. Streams that end
  // for a fault of their peer are told to `faults`, which outlives the service.
  RouteService(Peer<ToRouter, FromRouter>* peer, int streams_max, RefusalLog* faults = nullptr)
      : peer_(peer), streams_max_(streams_max), faults_(faults) {}

  // A message that cannot be decoded ends its stream with INVALID_ARGUMENT; a request that is
  // malformed in itself is answered with an error and the stream goes on.
  ServerBytesReactor* Route(grpc::CallbackServerContext* context) override;

  // Ends all streams and refuses later ones with UNAVAILABLE.
  void Drain();

  SelfToldCalls* self_told() { return &self_told_; }  // Route's

 private:
  using Stream = ServerStream<v1::RouteRequest, v1::RouteResponse>;

  absl::Status Admit(const std::shared_ptr<Stream>& stream);
  void Forget(const Stream* stream);

  Peer<ToRouter, FromRouter>* const peer_;
  const int streams_max_;
  RefusalLog* const faults_;
  SelfToldCalls self_told_{{"/pregate.v1.Router/Route"}};
  absl::Mutex mutex_;
  absl::flat_hash_map<const Stream*, std::weak_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate

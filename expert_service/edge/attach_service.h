// ExpertWorker.Attach over a worker: up to kWorkerLinksMax scheduler streams at a time. Who holds
// the worker is its own affair; when one stream too many comes, the oldest that holds nothing makes
// room. Messages are decoded here and handed on; nothing else happens. ExpertWorker.Meet is
// MeetService's.
#pragma once

#include <deque>
#include <memory>

#include "absl/synchronization/mutex.h"
#include "common/rpc/reset_counter.h"
#include "common/rpc/server_stream.h"
#include "common/telemetry/refusal_log.h"
#include "expert_service/edge/meet_service.h"
#include "expert_service/engine/worker_engine.h"
#include "pregate/v1/worker.grpc.pb.h"

namespace pregate {

// Thread-safe. `peer` and `meet` outlive the service, which outlives its server. Without `meet`
// that call is UNIMPLEMENTED. Streams that end for a fault of their peer are told to `faults`,
// which outlives the service.
class AttachService final
    : public v1::ExpertWorker::WithRawCallbackMethod_Attach<
          v1::ExpertWorker::WithCallbackMethod_Meet<v1::ExpertWorker::Service>> {
 public:
  explicit AttachService(WorkerPeer* peer, MeetService* meet = nullptr,
                         RefusalLog* faults = nullptr)
      : peer_(peer), meet_(meet), faults_(faults) {}

  ServerBytesReactor* Attach(grpc::CallbackServerContext* context) override;
  grpc::ServerUnaryReactor* Meet(grpc::CallbackServerContext* context,
                                 const v1::MeetRequest* request,
                                 v1::MeetResponse* response) override;

  // Ends the open streams and refuses later ones with UNAVAILABLE.
  void Drain();

  SelfToldCalls* self_told() { return &self_told_; }  // Attach's

 private:
  using Stream = ServerStream<v1::AttachRequest, v1::AttachResponse>;

  struct Open {
    LinkId link;
    std::weak_ptr<Stream> stream;
  };

  void Register(LinkId link, const std::shared_ptr<Stream>& stream);
  void MakeRoom() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  WorkerPeer* const peer_;
  MeetService* const meet_;
  RefusalLog* const faults_;
  SelfToldCalls self_told_{{"/pregate.v1.ExpertWorker/Attach"}};
  absl::Mutex mutex_;
  std::deque<Open> open_ ABSL_GUARDED_BY(mutex_);  // oldest first; some may have ended
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate

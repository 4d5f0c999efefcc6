// The client API over an engine. Decoding, tokenising and refusing happen on gRPC's
// threads; everything else is the engine's.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "common/rpc/reset_counter.h"
#include "common/step/peer.h"
#include "common/telemetry/log.h"
#include "pregate/v1/inference.grpc.pb.h"
#include "scheduler_service/core/request.h"
#include "scheduler_service/edge/constraint_compiler.h"
#include "scheduler_service/edge/request_log.h"
#include "scheduler_service/edge/scheduler_metrics.h"
#include "scheduler_service/edge/served_model.h"
#include "scheduler_service/engine/cluster_board.h"

namespace pregate {

class GenerateStream;

// Thread-safe. Everything passed outlives the service, which outlives its server and its streams.
// Requests arrive as bytes, so that one that cannot be parsed is refused by the name of its field.
class InferenceService final : public v1::Inference::WithRawCallbackMethod_Generate<
                                   v1::Inference::WithRawCallbackMethod_Tokenize<
                                       v1::Inference::WithRawCallbackMethod_Detokenize<
                                           v1::Inference::WithCallbackMethod_GetModelInfo<
                                               v1::Inference::WithCallbackMethod_GetClusterStatus<
                                                   v1::Inference::Service>>>>> {
 public:
  // `look`: what the engine shows of the cluster. Any thread calls it.
  InferenceService(const ServedModel* model, SchedulerMetrics* metrics, RequestLog* log,
                   Peer<GenerateRequest, ToClient>* engine, std::function<ClusterStanding()> look);
  ~InferenceService() override;

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* bytes) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* request,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* request,
                                       grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetModelInfo(grpc::CallbackServerContext* context,
                                         const v1::GetModelInfoRequest* request,
                                         v1::GetModelInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetClusterStatus(grpc::CallbackServerContext* context,
                                             const v1::GetClusterStatusRequest* request,
                                             v1::GetClusterStatusResponse* response) override;

  int num_streams() const { return num_streams_; }
  SelfToldCalls* self_told() { return &self_told_; }  // Generate's

 private:
  // At once, or when the constraint is compiled.
  void SubmitConstrained(const std::shared_ptr<GenerateStream>& stream,
                         absl::StatusOr<std::optional<Constraint>> constraint,
                         GenerateRequest request);
  void WatchForStuckStreams();
  void Forget(uint64_t key);

  const ServedModel* const model_;
  SchedulerMetrics* const metrics_;
  RequestLog* const log_;
  Peer<GenerateRequest, ToClient>* const engine_;
  const std::function<ClusterStanding()> look_;
  SelfToldCalls self_told_{{"/pregate.v1.Inference/Generate"}};
  std::atomic<uint64_t> next_key_{1};
  std::atomic<int> num_streams_{0};
  absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::weak_ptr<GenerateStream>> streams_ ABSL_GUARDED_BY(mutex_);
  ConstraintCompiler constraints_;
  absl::Notification stop_;
  std::thread watcher_;
};

}  // namespace pregate

// The schedulers behind a gateway: which of them are ready, what they serve, how much of ours each
// one has; and the calls to them.
#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "common/telemetry/log.h"
#include "gateway_service/core/generation.h"
#include "gateway_service/edge/cluster_query.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate::gateway {

class GenerateCall;

// Who hears of one call: on gRPC's threads, one at a time.
class GenerateListener {
 public:
  virtual ~GenerateListener() = default;
  // False: nothing more is read from the scheduler until GenerateCall::Resume.
  virtual bool OnMessage(const v1::GenerateResponse& message) = 0;
  // Once and last. `retry_after` is the scheduler's, or zero.
  virtual void OnEnd(const absl::Status& status, absl::Duration retry_after) = 0;
};

struct GenerateJob {
  v1::GenerateRequest request;
  absl::Time deadline = absl::InfiniteFuture();
  std::string traceparent;  // W3C's; empty: none
};

// Thread-safe.
class SchedulerPool {
 public:
  struct Target {
    std::string name;                                      // for logs and metrics: its address
    std::vector<std::shared_ptr<grpc::Channel>> channels;  // not empty; the first is filled first
  };
  struct State {
    std::string name;
    bool ready = false;
    int64_t outstanding = 0;
  };
  using OnStates = std::function<void(const std::vector<State>&)>;
  // Asks each whether it is ready, again and again, from construction on, and tells `on_states` each
  // time how they are, on a thread of its own. `log` outlives the pool.
  SchedulerPool(std::vector<Target> targets, OnStates on_states, const Log* log);
  ~SchedulerPool();  // CancelAll

  bool ready() const;                     // one of them
  std::vector<ModelCard> models() const;  // of those that were ready once, each name once

  // A call that Begin sends to the least loaded of those that are ready. One that refuses (UNAVAILABLE,
  // RESOURCE_EXHAUSTED) before its first message is followed by the next; where none is left the
  // last one's status is the call's.
  std::shared_ptr<GenerateCall> Prepare(GenerateJob job,
                                        std::shared_ptr<GenerateListener> listener);

  // Asks each what its cluster does, ready or not.
  void AskClusters(ClusterQuery::Done done);

  // Ends all calls and questions, and waits until who asked has heard so.
  void CancelAll();

 private:
  friend class GenerateCall;
  struct Scheduler;
  struct Probe;

  void ProbeAll();
  std::vector<State> states() const;
  // `is_late`: the answer's time was up.
  void OnProbed(Scheduler* scheduler, bool ready, bool is_late,
                const v1::GetModelInfoResponse* model);
  // What an attempt calls, counted until Release. Null: none is left.
  struct Lease {
    Scheduler* scheduler = nullptr;
    size_t channel = 0;
    v1::Inference::Stub* stub = nullptr;
  };
  Lease Acquire(const std::string& model, const absl::flat_hash_set<Scheduler*>& tried);
  void Release(const Lease& lease);
  void Forget(const std::shared_ptr<GenerateCall>& call);

  const OnStates on_states_;
  const Log* const log_;
  std::vector<std::unique_ptr<Scheduler>> schedulers_;
  mutable absl::Mutex mutex_;
  uint64_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  int num_probes_ ABSL_GUARDED_BY(mutex_) = 0;  // under way
  absl::flat_hash_set<std::shared_ptr<GenerateCall>> calls_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::shared_ptr<ClusterQuery>> queries_ ABSL_GUARDED_BY(mutex_);
  absl::Notification stop_;
  std::thread prober_;
};

// One request's call, over as many attempts as it takes. Thread-safe.
class GenerateCall final : public std::enable_shared_from_this<GenerateCall> {
 public:
  // By SchedulerPool::Prepare.
  GenerateCall(SchedulerPool* pool, GenerateJob job, std::shared_ptr<GenerateListener> listener)
      : pool_(pool), job_(std::move(job)), listener_(std::move(listener)) {}
  void Begin();   // once
  void Resume();  // after OnMessage said false
  void Cancel();

 private:
  class Attempt;
  bool BeginAttempt();  // false: no scheduler is left
  void OnRead(Attempt* attempt, bool ok);
  void OnDone(Attempt* attempt, const grpc::Status& status);
  void End(const absl::Status& status, absl::Duration retry_after);

  SchedulerPool* const pool_;
  const GenerateJob job_;
  std::shared_ptr<GenerateListener> listener_;            // until it has heard the end
  absl::flat_hash_set<SchedulerPool::Scheduler*> tried_;  // one attempt at a time touches it
  bool heard_ = false;                                    // the same: a message came
  absl::Mutex mutex_;
  Attempt* attempt_ ABSL_GUARDED_BY(mutex_) = nullptr;  // while it may be read from
  bool paused_ ABSL_GUARDED_BY(mutex_) = false;
  bool resumed_early_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate::gateway

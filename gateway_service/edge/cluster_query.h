// One question to all schedulers: what does your cluster do?
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "gateway_service/core/cluster_status.h"
#include "pregate/v1/inference.grpc.pb.h"

namespace pregate::gateway {

// Thread-safe.
class ClusterQuery final : public std::enable_shared_from_this<ClusterQuery> {
 public:
  // On a gRPC thread, once: each scheduler's answer in their order, or why it has none.
  using Done = std::function<void(std::vector<SchedulerStatus> answers)>;
  struct Asked {
    std::string name;
    v1::Inference::Stub* stub;  // outlives the query
  };

  using Forget = std::function<void(const std::shared_ptr<ClusterQuery>&)>;

  // At least one is asked. `forget` is told when `done` has returned.
  ClusterQuery(std::vector<Asked> schedulers, Done done, Forget forget);
  // Once. Lives until all have answered, or are too late (kSchedulerProbeTimeoutMs).
  void Begin();
  void Cancel();

 private:
  struct Call;
  void OnAnswer(size_t index, SchedulerStatus answer);

  std::vector<std::unique_ptr<Call>> calls_;
  absl::Mutex mutex_;
  size_t num_open_ ABSL_GUARDED_BY(mutex_);
  std::vector<SchedulerStatus> answers_ ABSL_GUARDED_BY(mutex_);
  const Done done_;
  const Forget forget_;
};

}  // namespace pregate::gateway

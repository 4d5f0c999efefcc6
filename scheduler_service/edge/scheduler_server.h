// The scheduler as a service: engine on its thread, client API, health, reflection, metrics. How it
// reaches router and workers is the caller's: over gRPC (scheduler_links.h) or within the process.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/rpc/service.h"
#include "common/telemetry/metrics.h"
#include "common/telemetry/trace.h"
#include "scheduler_service/edge/scheduler_options.h"
#include "scheduler_service/edge/served_model.h"
#include "scheduler_service/engine/links.h"

namespace pregate {

struct SchedulerLinks {
  std::vector<std::unique_ptr<WorkerLink>> workers;  // by rank
  std::unique_ptr<RouterLink> router;                // null for a dense model
};

// Ready while the loop turns, a group is formed, its workers were heard of lately and, for a model
// with experts, the router is connected. Thread-safe.
class SchedulerServer final : public Service {
 public:
  // Takes an event for the engine's inbox (false: full), from any thread, as long as the links
  // live.
  using Push = std::function<bool(EngineEvent)>;
  using MakeLinks = std::function<absl::StatusOr<SchedulerLinks>(const Push& push)>;

  // `registry`, `spans` (null: nobody collects them) and what `context` has outlive the server.
  // Addresses are bound when this returns.
  static absl::StatusOr<std::unique_ptr<SchedulerServer>> Start(
      const SchedulerServerOptions& options, ServedModel model, const MakeLinks& make_links,
      MetricsRegistry* registry, SpanSink* spans, const ServiceContext& context);
  ~SchedulerServer() override;  // Drain()

  std::string bound() const;          // address of Inference
  std::string metrics_bound() const;  // address of /metrics
  // To Inference, for a gateway in this process; ends with the server.
  std::shared_ptr<grpc::Channel> InProcessChannel();

  // Refuses new requests and finishes the admitted ones until the drain timeout; their last answers
  // may still be on their way. Idempotent.
  void FinishRequests();
  // That, and then ends everything. Idempotent.
  void Drain() override;

 private:
  struct State;
  explicit SchedulerServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

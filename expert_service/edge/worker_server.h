// The worker as a service: ExpertWorker.Attach, health, reflection, metrics.
#pragma once

#include <memory>
#include <string>

#include "common/config/option_set.h"
#include "common/rpc/otlp_exporter.h"
#include "common/rpc/service.h"
#include "expert_service/engine/worker_loader.h"

namespace pregate {

struct WorkerServerOptions {
  WorkerOptions worker;
  PortOptions ports{.listen = "127.0.0.1:7620", .metrics_listen = "127.0.0.1:7621"};
  std::string collective_host = "127.0.0.1";
  bool collective_insecure = false;
  OtlpOptions otlp;
};
void DeclareWorkerServerOptions(OptionSet& set, WorkerServerOptions* options);

// Activations are not encrypted whatever --tls-dir says: INVALID_ARGUMENT where --collective-host
// is not loopback and --collective-insecure was not given.
absl::Status CheckCollectiveHost(const WorkerServerOptions& options);

// Ready while the worker's loop turns.
class WorkerServer final : public Service {
 public:
  // Loads the worker and binds both addresses. What `context` has outlives the server.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(const WorkerServerOptions& options,
                                                             const ServiceContext& context);
  ~WorkerServer() override;

  // Health turns NOT_SERVING, the stream ends, the loop stops after the layer that runs. The
  // scheduler plans anew elsewhere or waits for this worker to come back.
  void Drain() override;

 private:
  struct State;
  explicit WorkerServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

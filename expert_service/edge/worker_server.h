// The worker as a service: ExpertWorker.Attach, health, reflection, metrics.
#pragma once

#include <memory>
#include <string>

#include "common/base/clock.h"
#include "common/config/option_set.h"
#include "common/telemetry/log.h"
#include "common/tls/grpc/security.h"
#include "expert_service/edge/worker_collectives.h"
#include "expert_service/engine/worker_host.h"

namespace pregate {

struct WorkerServerOptions {
  std::string listen = "127.0.0.1:7620";
  std::string metrics_listen = "127.0.0.1:7621";
  std::string port_file;
  std::string collective_host = "127.0.0.1";
  bool collective_insecure = false;
  std::string model_name;  // label of metrics; empty: the model path's last part
};
void DeclareWorkerServerOptions(OptionSet& set, WorkerServerOptions* options);

// Activations are not encrypted whatever --tls-dir says: INVALID_ARGUMENT where --collective-host
// is not loopback and --collective-insecure was not given.
absl::Status CheckCollectiveHost(const WorkerServerOptions& options);
// All addresses, before a model is loaded: what Start would refuse after minutes.
absl::Status CheckAddresses(const WorkerServerOptions& options, const Security& security);

// Ready while the worker's loop turns.
class WorkerServer {
 public:
  // Everything passed outlives the server. Addresses are bound when this returns.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(
      const WorkerServerOptions& options, const std::string& model_path, WorkerHost* host,
      WorkerCollectives* collectives, const Security* security, Clock* clock, const Log* log);
  ~WorkerServer();

  // Health turns NOT_SERVING, the stream ends, the loop stops after the layer that runs. The
  // scheduler plans anew elsewhere or waits for this worker to come back.
  void Drain();

 private:
  struct State;
  explicit WorkerServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

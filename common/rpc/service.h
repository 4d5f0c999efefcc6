// What every service's program does: options, log, TLS; start; two ports; wait for the end; drain.
//
//   ServiceMain ─▶ parse ─▶ RunService ─▶ start(context) ─▶ ServicePorts::Open ─▶ signal ─▶ Drain
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/impl/codegen/service_type.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/config/address.h"
#include "common/config/option_set.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "common/tls/grpc/security.h"

namespace pregate {

class SelfToldCalls;

// What a service is given by its program, which outlives it.
struct ServiceContext {
  Clock* clock = nullptr;
  const Log* log = nullptr;
  const Security* security = nullptr;
  // Ends the program, after a drain, with this status. Thread-safe; the first one counts.
  std::function<void(const absl::Status& why)> end;
};

class Service {
 public:
  virtual ~Service() = default;
  // Takes nothing new, finishes what it has within a bounded time, ends. Idempotent.
  virtual void Drain() = 0;
};
using StartService =
    std::function<absl::StatusOr<std::unique_ptr<Service>>(const ServiceContext& context)>;

struct ProgramOptions {
  TlsOptions tls;
  LogOptions log;
};
void DeclareProgramOptions(OptionSet& set, ProgramOptions* options);

// Until SIGTERM, SIGINT or ServiceContext::end. `name` is in each log line; `role` is that of the
// program's certificate.
absl::Status RunService(const std::string& name, Role role, const ProgramOptions& options,
                        const OptionSet& set, const StartService& start);

// main of pregate-NAME. `declare` adds the service's own options.
int ServiceMain(int argc, char** argv, const std::string& name, const std::string& description,
                Role role, const std::function<void(OptionSet& set)>& declare,
                const StartService& start);

struct PortOptions {
  std::string listen;
  std::string metrics_listen;
  std::string port_file;
  std::map<std::string, std::string> also_bound;  // further addresses for the port file, by name
  std::string model_name;  // label of metrics; empty: the model path's last part
};
// `what` listens at --listen: "Inference".
void DeclarePortOptions(OptionSet& set, const std::string& what, PortOptions* options);
// Before a model is loaded: what Open would refuse after minutes.
absl::Status CheckPortOptions(const PortOptions& options, const Security& security);

// A service's gRPC port (its service, health, reflection) and its metrics port. Thread-safe.
class ServicePorts {
 public:
  struct Served {
    std::string name;  // "pregate.v1.Router"
    grpc::Service* handler = nullptr;
    int message_bytes_max = 0;
    SelfToldCalls* self_told = nullptr;     // RpcServerOptions'
    std::function<absl::Time()> last_turn;  // of the service's loop, on `clock`
    std::function<bool()> ready;            // null: while the loop turns
  };

  // Everything passed outlives the ports. Addresses are bound when this returns, the port file is
  // written, and the log says so.
  static absl::StatusOr<std::unique_ptr<ServicePorts>> Open(const PortOptions& options,
                                                            const Served& served,
                                                            MetricsRegistry* registry,
                                                            const ServiceContext& context);
  ~ServicePorts();

  const Address& bound() const;
  std::string metrics_bound() const;
  std::shared_ptr<grpc::Channel> InProcessChannel();  // RpcServer's
  void HoldWrites(size_t num_messages);               // the same; from one thread
  void ReleaseWrites();
  // Health says NOT_SERVING from now on; calls go on.
  void MarkDraining();
  // Accepts nothing new, waits up to `grace` for open calls, then cancels them. Idempotent.
  void Shutdown(absl::Duration grace);

 private:
  struct State;
  explicit ServicePorts(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

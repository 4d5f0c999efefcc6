// The gateway as a service: HTTP port, tokens, the pool of schedulers. The same in a process of its
// own and inside `pregate serve`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http/listen_socket.h"
#include "common/rpc/service.h"
#include "common/telemetry/metrics.h"
#include "gateway_service/edge/scheduler_pool.h"

namespace pregate::gateway {

struct GatewayOptions {
  std::string http_listen;  // "off" or empty: there is no HTTP port
  std::string api_tokens_file;
  bool http_plaintext = false;
  bool http_open = false;
  int32_t http_threads = 2;
  std::string page = "on";

  bool on() const { return !http_listen.empty() && http_listen != "off"; }
};
void DeclareGatewayOptions(OptionSet& set, GatewayOptions* options);

// Errors name the option. HTTP is plaintext, so that beyond this machine both --http-plaintext, and
// --api-tokens-file or --http-open, must say that this is meant.
absl::StatusOr<Address> CheckGatewayOptions(const GatewayOptions& options);

class GatewayServer final : public Service {
 public:
  // `sockets` are bound already; they are served from now on. `registry` and what `context` has outlive
  // the server.
  static absl::StatusOr<std::unique_ptr<GatewayServer>> Start(
      const GatewayOptions& options, ListenSockets sockets,
      std::vector<SchedulerPool::Target> schedulers, MetricsRegistry* registry,
      const ServiceContext& context);
  ~GatewayServer() override;

  const Address& bound() const;
  bool ready() const;  // a scheduler is

  // Accepts nothing new; generations go on until `DrainWithin` or the destructor cuts them.
  void MarkDraining();
  // Waits for what is under way, then cancels it. Idempotent.
  void DrainWithin(absl::Duration timeout);
  void Drain() override { DrainWithin(absl::ZeroDuration()); }

 private:
  struct State;
  explicit GatewayServer(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace pregate::gateway

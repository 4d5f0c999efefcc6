// The router as a service: Router.Route, health, reflection, metrics.
#pragma once

#include <memory>
#include <string>

#include "common/config/option_set.h"
#include "common/rpc/otlp_exporter.h"
#include "common/rpc/service.h"
#include "router_service/engine/router_engine.h"

namespace pregate {

struct RouterServerOptions {
  std::string model;
  PortOptions ports{.listen = "127.0.0.1:7610", .metrics_listen = "127.0.0.1:7611"};
  std::string device = "cpu";
  int32_t threads = 1;
  RouterEngineOptions engine;
  OtlpOptions otlp;
};
// engine.boot_id is no option: it is the process's own.
void DeclareRouterServerOptions(OptionSet& set, RouterServerOptions* options);

// Ready while the engine's loop turns.
class RouterServer final : public Service {
 public:
  // Loads the router and binds both addresses. What `context` has outlives the server.
  static absl::StatusOr<std::unique_ptr<RouterServer>> Start(const RouterServerOptions& options,
                                                             const ServiceContext& context);
  ~RouterServer() override;

  std::string bound() const;  // address of Router.Route
  std::string metrics_bound() const;

  // Health turns NOT_SERVING, what was asked is answered for a bounded time, streams end with
  // UNAVAILABLE. A client replays its tokens to the next router, so an answer lost at the very end
  // costs only time.
  void Drain() override;

 private:
  struct State;
  explicit RouterServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pregate

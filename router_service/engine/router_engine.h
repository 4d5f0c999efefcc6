// The router's one loop on one thread: requests from any number of connections in, answers out.
//
//   Submit (any thread) ─▶ Mailbox ─▶ [ take all · plan a step · run it · commit · answer ] ─▶
//   sinks
//
// Connections come from the gRPC edge or from a link within the process; the engine knows neither.
// A session belongs to its connection and is forgotten with it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mailbox.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"
#include "common/step/route.h"
#include "router_service/core/route_queue.h"
#include "router_service/engine/router_executor.h"
#include "router_service/engine/router_metrics.h"

namespace pregate {

struct RouterEngineOptions {
  int context_tokens_max = 0;  // 0: the model's max_position
  int sessions_max = 4096;
  int64_t kv_cache_bytes = int64_t{256} << 20;
  int step_tokens_max = 128;  // bounds how long a step keeps others waiting
  int requests_max = 16384;   // also the mailbox's capacity
  absl::Duration session_idle_max = absl::Seconds(600);
  uint64_t boot_id = 0;  // random per process
};

// Takes what the router says to one connection. Called by Connect and then on the engine's thread,
// never by two threads at once; must neither block nor call the engine.
using RouterSink = std::function<void(FromRouter)>;

// All methods are thread-safe. Borrows device, clock and registry; the device is used on the
// engine's thread only.
class RouterEngine {
 public:
  // Loads the router and allocates everything; the thread runs when this returns.
  static absl::StatusOr<std::unique_ptr<RouterEngine>> Start(const Checkpoint& checkpoint,
                                                             Device& device, Clock& clock,
                                                             MetricsRegistry& registry,
                                                             const RouterEngineOptions& options);
  ~RouterEngine();  // Stop without waiting for requests

  // Opens a connection; `sink` has had the hello when this returns.
  ConnectionId Connect(RouterSink sink);
  // When this returns, the connection's sink is not running and is never called again.
  void Disconnect(ConnectionId connection);
  // False when the engine has stopped or its mailbox is full; the message is then lost.
  bool Submit(ConnectionId connection, ToRouter message);

  // Takes no more messages, answers those taken until `deadline`, and ends the thread. Idempotent.
  void Stop(absl::Time deadline);

  // When the loop last came round; a loop that makes progress is never older than one step or the
  // idle wait.
  absl::Time heartbeat() const;
  const RouterHello& hello() const { return hello_; }
  const RouterLimits& limits() const { return limits_; }
  size_t kv_bytes() const { return executor_->kv_bytes(); }
  size_t model_bytes() const { return executor_->net().device_bytes(); }

 private:
  struct Inbound {
    ConnectionId connection = 0;
    ToRouter message;
  };

  RouterEngine(Clock& clock, MetricsRegistry& registry, const RouterLimits& limits,
               uint64_t boot_id, std::unique_ptr<RouterExecutor> executor);

  void Loop();
  bool HasTimeForMore();
  absl::Duration WaitMax();
  void ForgetDisconnected();
  void Take(Inbound inbound);
  void RunStep();
  void Answer(const std::vector<RouteAnswer>& answers);
  void Deliver(ConnectionId connection, FromRouter message);
  bool IsConnected(ConnectionId connection);
  void Beat();
  void ReportSessions();

  Clock& clock_;
  const RouterLimits limits_;
  const std::unique_ptr<RouterExecutor> executor_;
  const RouterHello hello_;
  Mailbox<Inbound> mailbox_;
  std::atomic<int64_t> heartbeat_ns_{0};

  std::mutex mutex_;
  ConnectionId last_connection_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<ConnectionId, RouterSink> sinks_ ABSL_GUARDED_BY(mutex_);
  std::vector<ConnectionId> disconnected_ ABSL_GUARDED_BY(mutex_);  // not yet forgotten by the loop
  absl::Time stop_deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();

  // The loop's own.
  RouteQueue queue_;
  RouterMetrics metrics_;
  std::vector<ExpertId> routes_;
  std::thread thread_;
};

}  // namespace pregate

// The router's one loop on one thread: requests of any number of links in, answers out.
//
//   Submit (any thread) ─▶ Mailbox ─▶ Run: [ handle all · plan a step · run it · commit · answer ]
//
// Links come from the gRPC edge or from within the process; the engine knows neither. A session
// belongs to its link and is forgotten with it.
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
#include "common/step/peer.h"
#include "common/step/route.h"
#include "router_service/core/route_queue.h"
#include "router_service/engine/router_executor.h"
#include "router_service/engine/router_observer.h"

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

// All methods are thread-safe. Borrows device, clock and observer; the device is used on the engine's
// thread only.
class RouterEngine final : public Peer<ToRouter, FromRouter> {
 public:
  // Loads the router and allocates everything; the thread runs when this returns.
  static absl::StatusOr<std::unique_ptr<RouterEngine>> Start(const Checkpoint& checkpoint,
                                                             Device& device, Clock& clock,
                                                             RouterObserver& observer,
                                                             const RouterEngineOptions& options);
  ~RouterEngine() override;  // Stop without waiting for requests

  LinkId Attach(Send send) override;
  bool Submit(LinkId link, ToRouter message) override;
  // When this returns, the link's Send is not running and is never called again.
  void Detach(LinkId link) override;

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
    LinkId link = 0;
    ToRouter message;
  };

  RouterEngine(Clock& clock, RouterObserver& observer, const RouterLimits& limits, uint64_t boot_id,
               std::unique_ptr<RouterExecutor> executor);

  void Run();
  bool HasTimeForMore();
  absl::Duration WaitMax();
  void ForgetDetached();
  void Handle(Inbound inbound);
  void RunStep();
  void Answer(const std::vector<RouteAnswer>& answers);
  void Deliver(LinkId link, FromRouter message);
  bool IsAttached(LinkId link);
  void Beat();
  void Publish();

  Clock& clock_;
  RouterObserver& observer_;
  const RouterLimits limits_;
  const std::unique_ptr<RouterExecutor> executor_;
  const RouterHello hello_;
  Mailbox<Inbound> mailbox_;
  std::atomic<int64_t> heartbeat_ns_{0};

  std::mutex mutex_;
  LinkId last_link_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<LinkId, Send> links_ ABSL_GUARDED_BY(mutex_);
  std::vector<LinkId> detached_ ABSL_GUARDED_BY(mutex_);  // not yet forgotten by the loop
  absl::Time stop_deadline_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteFuture();

  // The loop's own.
  RouteQueue queue_;
  RouterGauges gauges_;  // as they were told last
  std::vector<ExpertId> routes_;
  std::thread thread_;
};

}  // namespace pregate

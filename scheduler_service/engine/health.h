// Readiness is progress: what the engine's thread publishes and health checks read.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"

namespace pregate {

// Written by the engine's thread, read by any. Times are those of the engine's Clock.
class EngineHealth {
 public:
  void SetLoopProgress(absl::Time t) { loop_us_.store(absl::ToUnixMicros(t)); }
  void SetWorkerProgress(absl::Time t) { worker_us_.store(absl::ToUnixMicros(t)); }
  void SetRouterProgress(absl::Time t) { router_us_.store(absl::ToUnixMicros(t)); }
  void SetServing(bool formed, bool routable, bool draining) {
    formed_.store(formed);
    routable_.store(routable);
    draining_.store(draining);
  }

  // When the loop last turned.
  absl::Time loop_progress() const { return absl::FromUnixMicros(loop_us_.load()); }
  // When the member that has been silent longest was last heard.
  absl::Time worker_progress() const { return absl::FromUnixMicros(worker_us_.load()); }

  absl::Time router_progress() const { return absl::FromUnixMicros(router_us_.load()); }

  // The loop turns, a group is formed, its workers and the router are there and were heard of, and
  // no drain has begun.
  bool Ready(absl::Time now, absl::Duration age_max) const {
    return formed_.load() && routable_.load() && !draining_.load() &&
           now - loop_progress() <= age_max && now - worker_progress() <= age_max &&
           now - router_progress() <= age_max;
  }

 private:
  std::atomic<int64_t> loop_us_{0};
  std::atomic<int64_t> worker_us_{0};
  std::atomic<int64_t> router_us_{0};
  std::atomic<bool> formed_{false};
  std::atomic<bool> routable_{false};
  std::atomic<bool> draining_{false};
};

}  // namespace pregate

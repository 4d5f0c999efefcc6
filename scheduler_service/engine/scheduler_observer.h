// What the scheduler's engine tells about itself: for metrics, logs and GetModelInfo.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/step/control.h"
#include "common/telemetry/log.h"
#include "scheduler_service/core/optimal_cache.h"
#include "scheduler_service/core/request.h"

namespace pregate {

// A step that every member has answered.
struct StepReport {
  absl::Duration duration;    // plan taken to result made, at the slowest member
  absl::Duration round_trip;  // plan sent to result handled; with run-ahead it contains the wait
                              // behind the step before
  int32_t num_rows = 0;
  int32_t num_tokens = 0;
  int32_t unique_experts = 0;  // that ran, over all members
};

struct EngineGauges {
  int32_t requests_running = 0;
  int32_t requests_waiting = 0;  // routing, queued or preempted
  std::vector<bool> workers_up;  // by rank
  bool router_up = false;
  int64_t kv_blocks = 0;
  int64_t kv_blocks_used = 0;    // by sequences
  int64_t kv_blocks_cached = 0;  // that a prefix can be found in, in use or not
  int64_t kv_evictions = 0;      // of such blocks, since the start
  int64_t routed_ahead = 0;  // tokens of the batch whose expert is known and that no step has taken
  scheduler::Reuse reuse;    // where not all experts fit
  bool operator==(const EngineGauges&) const = default;
};

// Called from the engine's thread; must not block. Every callback may be left out.
class SchedulerObserver : public EngineObserver {
 public:
  // A new epoch's members have answered; `cell` is what they agree on, and the least of their sizes.
  virtual void OnFormed(Epoch epoch, const WorkerFacts& cell) {}
  virtual void OnRecovery(const std::string& reason) {}
  virtual void OnStep(const StepReport& report) {}
  // Sequences lost their KV to others.
  virtual void OnPreempted(int64_t num_sequences) {}
  // A sequence enters the batch, of whose tokens so many need not be computed.
  virtual void OnPrefix(int64_t num_tokens, int64_t num_found) {}
  virtual void OnRouted(absl::Duration duration, int32_t num_tokens) {}
  virtual void OnFirstToken(absl::Duration since_accept) {}
  virtual void OnNextTokens(absl::Duration since_last, int64_t num_tokens) {}
  virtual void OnDone(const DoneInfo& info) {}          // refused requests too
  virtual void OnGauges(const EngineGauges& gauges) {}  // when one has changed
};

}  // namespace pregate

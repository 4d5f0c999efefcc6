// What the engine tells about itself: to metrics, logs and GetModelInfo, which are the edge's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/step/control.h"
#include "common/step/result.h"
#include "scheduler_service/core/residency.h"
#include "scheduler_service/engine/request.h"

namespace pregate {

enum class LogLevel { kInfo, kWarning, kError };

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
  int64_t kv_blocks_used = 0;
  bool operator==(const EngineGauges&) const = default;
};

// Called from the engine's thread; must not block. Every callback may be left out.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnLog(LogLevel level, const std::string& message) {}
  // A new epoch's members have answered; `hello` is the lowest one's.
  virtual void OnFormed(Epoch epoch, const Hello& hello) {}
  virtual void OnRecovery(const std::string& reason) {}
  virtual void OnStep(const StepReport& report) {}
  // Sequences lost their KV to others.
  virtual void OnPreempted(int64_t num_sequences) {}
  // Changes of what is resident, as the workers report them.
  virtual void OnUnits(const scheduler::UnitCounts& counts) {}
  virtual void OnRouted(absl::Duration duration, int32_t num_tokens) {}
  virtual void OnFirstToken(absl::Duration since_accept) {}
  virtual void OnNextToken(absl::Duration since_last) {}
  virtual void OnDone(const DoneInfo& info) {}          // refused requests too
  virtual void OnGauges(const EngineGauges& gauges) {}  // when one has changed
};

}  // namespace pregate

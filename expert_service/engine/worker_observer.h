// What a worker's engine tells about itself, for metrics and logs.
#pragma once

#include <cstdint>

#include "common/step/result.h"
#include "common/telemetry/log.h"
#include "common/telemetry/trace_log.h"
#include "expert_service/engine/expert_store.h"
#include "expert_service/engine/memory_plan.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {

// Called from the engine's threads; must not block. Every callback may be left out.
class WorkerObserver : public EngineObserver {
 public:
  virtual void OnMemory(const MemoryPlan& plan) {}  // before anything is allocated
  virtual void OnLinks(int32_t num_links) {}        // schedulers' streams that are attached
  // A plan was answered; `times` mean nothing where it failed.
  virtual void OnStep(const StepResult& result, const StepTimes& times) {}
  virtual void OnTraced(const TracedWork& work) {}        // a sequence of a trace has left
  virtual void OnResidency(const ResidencyStats& now) {}  // at the start, and after each change
};

}  // namespace pregate

// Executors with small limits: one on a device of its own, or a cell of several on threads. The
// checkpoint outlives it.
#pragma once

#include <memory>
#include <vector>

#include "common/base/clock.h"
#include "common/collective/local/local_fabric.h"
#include "common/device/device.h"
#include "expert_service/engine/step_executor.h"
#include "expert_service/testing/plan_maker.h"

namespace pregate {

struct TestEngineOptions {
  DType dtype = DType::kF32;
  int threads = 1;
  int32_t expert_slots = 0;
  int32_t world_size = 1;
  bool exchange_alone = false;  // one rank, whose expert rows go through its collective
  bool at_once = false;         // on a MakeAtOnceTestDevice
};

// Not thread-safe. Every rank gets every plan; sequence s has its home at rank s % world_size.
struct TestEngine {
  static constexpr int32_t kSlots = 8, kBlocks = 64, kStepTokens = 40, kContext = 96;

  TestEngine(const Checkpoint& checkpoint, DType dtype, int threads)
      : TestEngine(checkpoint, {.dtype = dtype, .threads = threads}) {}
  TestEngine(const Checkpoint& checkpoint, const TestEngineOptions& options);

  void Reset() {
    for (const auto& executor : executors) executor->Reset();
  }
  // All ranks' answers as one; the first bad status. `times` are then sums over the
  // ranks of tokens, misses and exchanged bytes; its other fields are 0.
  StepResult Run(StepPlan plan);
  StepResult Run(PlanMaker& maker) { return Run(maker.Take()); }

  ManualClock clock;
  ModelSpec spec;
  LocalFabric fabric;
  std::vector<std::unique_ptr<Device>> devices;          // [world_size]
  std::unique_ptr<CollectiveFactory> alone;              // with exchange_alone
  std::vector<std::unique_ptr<Collective>> collectives;  // [world_size], or none
  std::vector<std::unique_ptr<StepExecutor>> executors;  // [world_size]
  Placement placement;
  StepTimes times;  // of the last Run
};

}  // namespace pregate

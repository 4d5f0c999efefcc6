// One executor with small limits on a device of its own. The checkpoint outlives it.
#pragma once

#include <memory>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"
#include "expert_service/engine/step_executor.h"
#include "expert_service/testing/plan_maker.h"

namespace pregate {

struct TestEngine {
  static constexpr int32_t kSlots = 8, kBlocks = 64, kStepTokens = 40, kContext = 96;

  TestEngine(const Checkpoint& checkpoint, DType dtype, int threads, int32_t expert_slots = 0)
      : TestEngine(checkpoint, dtype, MakeCpuDevice({.threads = threads}), expert_slots) {}
  TestEngine(const Checkpoint& checkpoint, DType dtype, std::unique_ptr<Device> on,
             int32_t expert_slots = 0)
      : device(std::move(on)), spec(checkpoint.spec()) {
    ExecutorOptions options;
    options.dtype = dtype;
    options.kv_blocks = kBlocks;
    options.seq_slots = kSlots;
    options.step_tokens = kStepTokens;
    options.context_tokens = kContext;
    options.logits_rows_max = 5;
    options.expert_slots = expert_slots;
    auto created = StepExecutor::Create(checkpoint, device.get(), &clock, options, nullptr);
    PREGATE_CHECK(created.ok(), "", created.status().ToString());
    executor = *std::move(created);
  }
  StepResult Run(PlanMaker& maker) { return executor->Run(maker.Take(), nullptr); }

  std::unique_ptr<Device> device;
  ManualClock clock;
  ModelSpec spec;
  std::unique_ptr<StepExecutor> executor;
};

}  // namespace pregate

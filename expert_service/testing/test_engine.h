// One executor with small limits on a device of its own.
#pragma once

#include <memory>

#include "common/base/clock.h"
#include "common/base/status.h"
#include "expert_service/engine/step_executor.h"
#include "expert_service/testing/engine_device.h"
#include "expert_service/testing/plan_maker.h"

namespace pregate {

struct TestEngine {
  static constexpr int32_t kSlots = 8, kBlocks = 64, kStepTokens = 40, kContext = 96;

  TestEngine(const Checkpoint& checkpoint, DType dtype, int threads)
      : device(MakeEngineTestDevice(threads)), spec(checkpoint.spec()) {
    ExecutorOptions options;
    options.dtype = dtype;
    options.kv_blocks = kBlocks;
    options.seq_slots = kSlots;
    options.step_tokens = kStepTokens;
    options.context_tokens = kContext;
    options.logits_rows_max = 5;
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

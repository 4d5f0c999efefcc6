// What tests of a worker of rank 0 and TinySpec(3) share.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "common/base/clock.h"
#include "common/step/control.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {

struct TinyWorker {
  static constexpr int32_t kSlots = 4, kBlocks = 16;

  // `experts`: read at start; nothing: all. The others outlive the executor.
  static absl::StatusOr<std::unique_ptr<StepExecutor>> MakeExecutor(
      const Checkpoint& checkpoint, Device* device, Clock* clock,
      std::optional<std::vector<ExpertId>> experts = std::nullopt) {
    ExecutorOptions options;
    options.types = kF32Types;
    options.kv_blocks = kBlocks;
    options.seq_slots = kSlots;
    options.step_tokens = 16;
    options.context_tokens = 64;
    options.experts = std::move(experts);
    return StepExecutor::Create(checkpoint, device, clock, options, nullptr);
  }

  // Of this worker alone.
  static Form MakeForm(Epoch epoch) {
    Form form;
    form.epoch = epoch;
    form.scheduler_id = "scheduler";
    form.members = {0};
    form.placement.ranks.assign(3, {0});
    return form;
  }
};

}  // namespace pregate

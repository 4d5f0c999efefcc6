// `--expert-slots auto`: how many experts' units lie on the device, from its memory; and what that
// comes to.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/device/device.h"
#include "common/model/spec/spec.h"
#include "expert_service/engine/memory_plan.h"
#include "expert_service/engine/step_executor.h"

namespace pregate {

// What a worker's memory plan may take of its device.
struct DeviceBudget {
  int64_t bytes = 0;
  // Where nobody gave the bytes: what was free, and what is left of it for what no plan counts
  // (kernels' scratch, libraries, NCCL).
  int64_t free_bytes = 0, reserve_bytes = 0;
};

// `given_bytes`; 0: what is free now, less a reserve of 1/32 of the device's memory, divided among
// `sharers` > 0, the workers that are still to take their part of the device.
absl::StatusOr<DeviceBudget> BudgetOf(const Device& device, int64_t given_bytes, int32_t sharers);

struct SlotChoice {
  int32_t expert_slots = 0;  // as ExecutorOptions': 0: all stay
  DeviceBudget budget;       // empty where it decides nothing
  std::string reason;
};
// All units where they fit, else the most slots; of all experts, for a worker may have to take over
// each. Where images lie in the memory that the device computes in, slots beside them save none of it,
// so that without `given_bytes` all stay there. RESOURCE_EXHAUSTED with the sizes where not even one
// expert's fit.
absl::StatusOr<SlotChoice> ChooseExpertSlots(const ModelSpec& spec, const Device& device,
                                             const ExecutorOptions& options, int64_t given_bytes,
                                             int32_t sharers);

// How many tokens keep their expert in the paper's measurement (docs/PAPER.md).
inline constexpr double kAssumedKeep = 0.71;

// Tokens a second of one stream without drafts. A token leaves its expert with probability 1 - keep,
// for any other alike, and finds it absent with (experts - slots) / (experts - 1); then its layers'
// units cross the link while the step computes what it has. slots 0: all are there.
double ExpectedTokensPerSecond(const DecodeCost& cost, int32_t layers, int32_t experts,
                               int32_t slots, double keep);

}  // namespace pregate

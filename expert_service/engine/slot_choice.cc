#include "expert_service/engine/slot_choice.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace pregate {
namespace {

constexpr int64_t kReserveShare = 32;  // of the device's memory, one part

}  // namespace

absl::StatusOr<DeviceBudget> BudgetOf(const Device& device, int64_t given_bytes, int32_t sharers) {
  if (given_bytes > 0) return DeviceBudget{.bytes = given_bytes};
  ASSIGN_OR_RETURN(const DeviceMemory memory, device.Memory());
  DeviceBudget budget{.free_bytes = memory.free_bytes,
                      .reserve_bytes = memory.total_bytes / kReserveShare};
  budget.bytes = std::max<int64_t>(budget.free_bytes - budget.reserve_bytes, 0) / sharers;
  return budget;
}

absl::StatusOr<SlotChoice> ChooseExpertSlots(const ModelSpec& spec, const Device& device,
                                             const ExecutorOptions& options, int64_t given_bytes,
                                             int32_t sharers) {
  if (!spec.is_moe()) return SlotChoice{.reason = "a dense model"};
  if (given_bytes == 0 && device.host_memory()) {
    return SlotChoice{.reason =
                          "the device computes in the host's memory, where slots save nothing"};
  }
  SlotChoice choice;
  ASSIGN_OR_RETURN(choice.budget, BudgetOf(device, given_bytes, sharers));
  ASSIGN_OR_RETURN(choice.expert_slots,
                   FittingExpertSlots(spec, device, options, choice.budget.bytes));
  choice.reason = choice.expert_slots == 0
                      ? "all fit"
                      : absl::StrCat(choice.expert_slots, " of ", spec.num_experts, " fit");
  return choice;
}

double ExpectedTokensPerSecond(const DecodeCost& cost, int32_t layers, int32_t experts,
                               int32_t slots, double keep) {
  const double absent = slots == 0 || experts < 2 ? 0 : 1.0 * (experts - slots) / (experts - 1);
  const double step_s = absl::ToDoubleSeconds(cost.step);
  const double waiting_step_s = std::max(step_s, layers * absl::ToDoubleSeconds(cost.unit_load));
  const double waits = (1 - keep) * absent;
  return 1 / ((1 - waits) * step_s + waits * waiting_step_s);
}

}  // namespace pregate

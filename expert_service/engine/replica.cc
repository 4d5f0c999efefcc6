#include "expert_service/engine/replica.h"

#include <utility>

#include "common/base/status.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<Replica>> Replica::Create(const Checkpoint& checkpoint,
                                                         Device* device,
                                                         absl::Span<const KvLayer> kv,
                                                         int32_t step_tokens) {
  ASSIGN_OR_RETURN(std::unique_ptr<RouterNet> net,
                   RouterNet::Load(checkpoint, *device, step_tokens));
  std::unique_ptr<Replica> replica(new Replica(std::move(net), device, kv));
  ASSIGN_OR_RETURN(replica->routes_, device->Allocate(step_tokens * sizeof(int32_t)));
  return replica;
}

void Replica::FillKv(const StepInputs& inputs, const SlotState& slots) {
  if (inputs.num_fill() == 0) return;
  const StepArrays& a = inputs.device();
  net_->FillKv({inputs.fills(), a.fill_token_ids, a.fill_positions, a.fill_seq_slots,
                slots.block_tables(), slots.blocks_per_seq()},
               kv_);
}

void Replica::RouteSamples(const StepInputs& inputs, const int32_t* sampled_tokens,
                           const SlotState& slots) {
  const StepArrays& a = inputs.device();
  net_->Forward({inputs.samples(), sampled_tokens, a.emit_positions, a.emit_seq_slots,
                 slots.block_tables(), slots.blocks_per_seq()},
                kv_, nullptr, routes_.as<int32_t>());
  device_.ScatterToSlots(inputs.samples(), routes_.as<int32_t>(), a.emit_seq_slots,
                         slots.last_route());
}

}  // namespace pregate

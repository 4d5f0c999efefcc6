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
  replica->draft_routes_.resize(step_tokens);
  return replica;
}

void Replica::FillKv(const StepInputs& inputs, const SlotState& slots) {
  if (inputs.num_fill() == 0) return;
  const StepArrays& a = inputs.device();
  net_->FillKv({inputs.fills(), a.fill_token_ids, a.fill_positions, a.fill_seq_slots,
                slots.block_tables(), slots.blocks_per_seq()},
               kv_);
}

void Replica::Route(const StepTokens& tokens, const SlotState& slots) {
  net_->Forward({tokens.rows, tokens.ids, tokens.positions, tokens.seq_slots, slots.block_tables(),
                 slots.blocks_per_seq()},
                kv_, nullptr, routes_.as<int32_t>());
}

absl::Status Replica::RouteDrafts(const SlotState& slots, StepInputs* inputs) {
  Route(inputs->drafts(), slots);
  device_.Download(draft_routes_.data(), routes(), inputs->num_drafts() * sizeof(ExpertId));
  RETURN_IF_ERROR(device_.Synchronize());
  inputs->SetDraftRoutes(draft_routes_);
  return absl::OkStatus();
}

void Replica::RouteSamples(const StepTokens& samples, const SlotState& slots) {
  Route(samples, slots);
  device_.ScatterToSlots(samples.rows, routes(), samples.seq_slots, slots.last_route());
}

}  // namespace pregate

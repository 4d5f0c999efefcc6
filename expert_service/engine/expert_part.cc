#include "expert_service/engine/expert_part.h"

#include "common/base/status.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<ExpertPart>> ExpertPart::Create(Device* device, ExpertStore* store,
                                                               ActType act, int num_experts,
                                                               int tokens_max) {
  std::unique_ptr<ExpertPart> part(new ExpertPart(device, store, act, num_experts));
  ASSIGN_OR_RETURN(part->offsets_, device->Allocate((num_experts + 1) * sizeof(int32_t)));
  ASSIGN_OR_RETURN(part->order_, device->Allocate(tokens_max * sizeof(int32_t)));
  return part;
}

int64_t ExpertPart::Bytes(int num_experts, int tokens_max) {
  return (num_experts + 1 + tokens_max) * sizeof(int32_t);
}

void ExpertPart::BeginStep(RowCount rows, const int32_t* routes) {
  if (exchange_ == nullptr) device_.BuildGroups(rows, routes, groups());
}

absl::Status ExpertPart::Run(int layer, RowCount rows, const void* act, float* own) {
  return exchange_ == nullptr ? RunHere(layer, rows, act, own) : RunEverywhere(layer, act, own);
}

absl::Status ExpertPart::RunHere(int layer, RowCount rows, const void* act, float* own) {
  store_.ForLayer(layer, [&](const void* const* units) {
    device_.Ffn(rows, act_, act, groups(), units, store_.shape(layer), own);
  });
  return absl::OkStatus();
}

absl::Status ExpertPart::RunEverywhere(int layer, const void* act, float* own) {
  RETURN_IF_ERROR(exchange_->Dispatch(act));
  store_.ForLayer(layer, [&](const void* const* units) {
    device_.Ffn(exchange_->received_rows(), act_, exchange_->received(), exchange_->groups(), units,
                store_.shape(layer), exchange_->received_own());
  });
  return exchange_->Combine(own);
}

}  // namespace pregate

#include "expert_service/engine/expert_part.h"

#include "common/base/status.h"

namespace pregate {

absl::StatusOr<std::unique_ptr<ExpertPart>> ExpertPart::Create(Device* device, ExpertStore* store,
                                                               int num_experts, int tokens_max) {
  std::unique_ptr<ExpertPart> part(new ExpertPart(device, store, num_experts));
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

absl::Status ExpertPart::FfnHalf(int layer, RowCount rows, const FfnShape& shape,
                                 const FfnWeights& weights, const LayerWorkspace& workspace,
                                 float* h) {
  const auto run = [&](const void* const* units) {
    device_.FfnHalf(rows, shape, weights, groups(), units, workspace, h);
  };
  if (exchange_ == nullptr && store_.RunAtOnce(layer, run)) return absl::OkStatus();
  device_.FfnBegin(rows, shape, weights, workspace, h);
  RETURN_IF_ERROR(RunOwn(layer, rows, shape.act, workspace));
  device_.FfnEnd(rows, shape, weights, workspace, h);
  return absl::OkStatus();
}

absl::Status ExpertPart::RunOwn(int layer, RowCount rows, ActType act,
                                const LayerWorkspace& workspace) {
  if (exchange_ == nullptr) {
    RunWaves(layer, rows, act, workspace.act, groups(), workspace.own);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(exchange_->Dispatch(workspace.act));
  RunWaves(layer, exchange_->received_rows(), act, exchange_->received(), exchange_->groups(),
           exchange_->received_own());
  return exchange_->Combine(workspace.own);
}

void ExpertPart::RunWaves(int layer, RowCount rows, ActType act, const void* act_in,
                          const ExpertGroups& groups, float* own) {
  store_.ForLayer(layer, [&](const void* const* units) {
    device_.ExpertFfn(rows, act, act_in, groups, units, store_.shape(layer), own);
  });
}

}  // namespace pregate

// The feed-forward half of a layer with experts: a token's row goes to the unit of its route, on
// this rank or another.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/device/device.h"
#include "expert_service/engine/exchange.h"
#include "expert_service/engine/expert_store.h"

namespace pregate {

// Not thread-safe. Device and store outlive it.
class ExpertPart {
 public:
  // Steps of at most `tokens_max` tokens.
  static absl::StatusOr<std::unique_ptr<ExpertPart>> Create(Device* device, ExpertStore* store,
                                                            int num_experts, int tokens_max);
  static int64_t Bytes(int num_experts, int tokens_max);

  // Null (at the start): this rank runs everything itself.
  void SetExchange(Exchange* exchange) { exchange_ = exchange; }

  // Once a step, after ExpertStore::BeginStep. routes [rows.max] on the device, all in range.
  void BeginStep(RowCount rows, const int32_t* routes);

  // The feed-forward half of a layer (common/device/layer.h): in one piece where all of its units
  // are there and nothing travels, else in parts. REQUIRES: the layer has own neurons.
  absl::Status FfnHalf(int layer, RowCount rows, const FfnShape& shape, const FfnWeights& weights,
                       const LayerWorkspace& workspace, float* h);

  // ExpertStore::RunLayers; nothing runs so where rows travel.
  int32_t RunLayers(int32_t first, ExpertStore::RunCount run) {
    return exchange_ == nullptr ? store_.RunLayers(first, run) : 0;
  }
  const void* const* units(int layer) const { return store_.units(layer); }
  // The step's tokens by route.
  ExpertGroups groups() const {
    return {offsets_.as<int32_t>(), order_.as<int32_t>(), num_experts_};
  }

 private:
  ExpertPart(Device* device, ExpertStore* store, int num_experts)
      : device_(*device), store_(*store), num_experts_(num_experts) {}
  absl::Status RunOwn(int layer, RowCount rows, ActType act, const LayerWorkspace& workspace);
  void RunWaves(int layer, RowCount rows, ActType act, const void* act_in,
                const ExpertGroups& groups, float* own);

  Device& device_;
  ExpertStore& store_;
  Exchange* exchange_ = nullptr;
  const int num_experts_;
  DeviceBuffer offsets_, order_;  // tokens by route
};

}  // namespace pregate

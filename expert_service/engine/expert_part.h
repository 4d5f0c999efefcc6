// The experts' own part of a layer's feed-forward: a token's row goes to the unit of its route, on
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
                                                            ActType act, int num_experts,
                                                            int tokens_max);
  static int64_t Bytes(int num_experts, int tokens_max);

  // Null (at the start): this rank runs everything itself.
  void SetExchange(Exchange* exchange) { exchange_ = exchange; }

  // Once a step, after ExpertStore::BeginStep. routes [rows.max] on the device, all in range.
  void BeginStep(RowCount rows, const int32_t* routes);

  // own[t, :] = O(act[t, :]) in f32; [rows, hidden]. REQUIRES: the layer has own neurons.
  absl::Status Run(int layer, RowCount rows, const void* act, float* own);

 private:
  ExpertPart(Device* device, ExpertStore* store, ActType act, int num_experts)
      : device_(*device), store_(*store), act_(act), num_experts_(num_experts) {}
  absl::Status RunHere(int layer, RowCount rows, const void* act, float* own);
  absl::Status RunEverywhere(int layer, const void* act, float* own);
  ExpertGroups groups() const {
    return {offsets_.as<int32_t>(), order_.as<int32_t>(), num_experts_};
  }

  Device& device_;
  ExpertStore& store_;
  Exchange* exchange_ = nullptr;
  const ActType act_;
  const int num_experts_;
  DeviceBuffer offsets_, order_;  // tokens by route
};

}  // namespace pregate

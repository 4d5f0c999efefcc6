// The router beside the sampler: it names the route of each token that was just sampled
// (docs/adr/0003-router-replica-in-the-worker.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/model/formats/checkpoint.h"
#include "common/router/router_net.h"
#include "expert_service/engine/slot_state.h"
#include "expert_service/engine/step_inputs.h"

namespace pregate {

// Not thread-safe. The device and the KV layers outlive it.
class Replica {
 public:
  static absl::StatusOr<std::unique_ptr<Replica>> Create(const Checkpoint& checkpoint,
                                                         Device* device,
                                                         absl::Span<const KvLayer> kv,
                                                         int32_t step_tokens);

  // Equal to the router service's when both have the same weights.
  const std::string& digest() const { return net_->digest(); }

  // Stores the replica's KV of the step's tokens that have none yet.
  void FillKv(const StepInputs& inputs, const SlotState& slots);

  // Runs the step's drafts at their own positions, and tells `inputs` their routes. REQUIRES: FillKv.
  absl::Status RouteDrafts(const SlotState& slots, StepInputs* inputs);

  // Runs samples at their own positions. Their routes are at routes() afterwards, in that order, and
  // in slots.last_route. REQUIRES: every token before them has replica KV.
  void RouteSamples(const StepTokens& samples, const SlotState& slots);

  const int32_t* routes() const { return routes_.as<int32_t>(); }  // device [step_tokens]

 private:
  void Route(const StepTokens& tokens, const SlotState& slots);

  Replica(std::unique_ptr<RouterNet> net, Device* device, absl::Span<const KvLayer> kv)
      : net_(std::move(net)), device_(*device), kv_(kv) {}

  const std::unique_ptr<RouterNet> net_;
  Device& device_;
  const absl::Span<const KvLayer> kv_;
  DeviceBuffer routes_;
  std::vector<ExpertId> draft_routes_;  // [step_tokens]
};

}  // namespace pregate

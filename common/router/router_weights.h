// The router's tensors in the device's packed form, read once at start.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate {

// Everything is f32. q, k and v are one matrix [3 * hidden, hidden], in that order.
struct RouterLayerWeights {
  AttentionWeights attention;
  MlpWeights mlp;
};

// Owns the device memory that its pointers name.
struct RouterWeights {
  Matrix embed;  // [vocab, hidden]
  std::vector<RouterLayerWeights> layers;
  EmitHead head;                    // proj_out [experts, hidden]
  const float* inv_freq = nullptr;  // [head_dim / 2]
  // SHA-256 over the router's shapes and the f32 values of its tensors: the same whatever file held
  // them.
  std::string digest;
  size_t device_bytes = 0;
  std::vector<DeviceBuffer> buffers;
};

// Reads `router.*` of a checkpoint whose spec has a router. FAILED_PRECONDITION when it has none,
// INVALID_ARGUMENT naming the field for shapes that the network cannot run.
absl::StatusOr<RouterWeights> LoadRouterWeights(const Checkpoint& checkpoint, Device& device);

}  // namespace pregate

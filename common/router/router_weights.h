// The router's tensors in the device's packed form, read once at start.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/device/device.h"
#include "common/model/formats/checkpoint.h"

namespace pregate {

// Biases and norms are f32 device arrays. q, k and v are one matrix [3 * hidden, hidden], in that
// order.
struct RouterLayerWeights {
  const float* attention_norm = nullptr;  // [hidden]
  Matrix qkv;
  const float* qkv_bias = nullptr;  // [3 * hidden]
  Matrix o;
  const float* o_bias = nullptr;    // [hidden]
  const float* ffn_norm = nullptr;  // [hidden]
  Matrix proj_1;
  const float* proj_1_bias = nullptr;  // [intermediate]
  Matrix proj_2;
  const float* proj_2_bias = nullptr;  // [hidden]
};

// Owns the device memory that its pointers name; everything is f32.
struct RouterWeights {
  Matrix embed;  // [vocab, hidden]
  std::vector<RouterLayerWeights> layers;
  const float* norm = nullptr;  // [hidden]
  Matrix proj_out;              // [experts, hidden]
  const float* proj_out_bias = nullptr;
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

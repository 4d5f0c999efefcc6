// The checkpoint layout of Read-ME's released training code (VITA-Group/READ-ME,
// modeling_llama.py).
//
//   theirs                                              ours
//   model.layers.{l}.moe.{gate,up,down}_proj_{e}        model.layers.{l}.mlp.experts.{e}.*
//   model.layers.{l}.moe.{gate,up,down}_proj_residual   model.layers.{l}.mlp.shared.*
//   cluster_predictor.{q_proj,proj_1,...}_{i}           router.layers.{i}.*
//   cluster_predictor.{embed,out_layernorm,proj_out}    router.{embed,norm,proj_out}
//
// Split, an expert's tensors hold its own neurons. Fused, they hold shared and own ones in the
// dense model's order, and there is no residual. A fused layout is split where it can be: neurons
// whose three weight vectors are equal, bit for bit, in every expert are shared. After tuning there
// may be none, and then the shared width is 0.
#pragma once

#include "absl/status/status.h"
#include "common/model/checkpoint_parts.h"
#include "common/model/json.h"
#include "common/model/safetensors_set.h"

namespace pregate {

bool IsAuthorsConfig(const JsonObject& config);

// Completes parts->spec (the dense part is there) and parts->views (the backbone without FFNs is
// there).
absl::Status MapAuthorsLayout(const JsonObject& config, const SafetensorsSet& files,
                              CheckpointParts* parts);

}  // namespace pregate

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

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/formats/checkpoint_parts.h"

namespace pregate {

extern const ForeignLayout kAuthorsLayout;

// Checkpoint::Open of this layout too: what tools read. Services serve what was imported.
inline absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path) {
  return Checkpoint::Open(path, &kAuthorsLayout);
}

}  // namespace pregate

// What of a tuning run is saved: "tune.safetensors", in one file, so that weights, means and step are
// always of one moment, and the losses of its steps in "losses.jsonl". Only LibTorch's users include
// this.
#pragma once

#include "absl/types/span.h"
#include "refactor/optimizer.h"
#include "refactor/work_folder.h"

namespace pregate {

struct LossRow {
  int64_t step = 0;
  int round = 0;
  double loss = 0, divergence = 0, nll = 0, rate = 0, gradient = 0;
};

struct TuneState {
  int64_t step = 0;  // done
  std::vector<LossRow> losses;
};

nlohmann::json ToJson(const LossRow& row);

using Optimizers = absl::Span<Optimizer* const>;  // each made all steps of the state

// Saving is durable; what was there stays until it is.
absl::Status SaveTuneState(const WorkFolder& work, const nlohmann::json& inputs,
                           const TuneState& state, Optimizers optimizers);
// False where there is none. CheckInputs' errors; InvalidArgument where tensors are others.
absl::StatusOr<bool> LoadTuneState(const WorkFolder& work, const nlohmann::json& inputs,
                                   TuneState& state, Optimizers optimizers);

// "layer_router.{l}.weight".
std::string LayerRouterName(size_t layer);
// Routers of the layers (causal_model.h), in "layer-routers.safetensors".
absl::Status SaveLayerRouters(const WorkFolder& work, const std::vector<at::Tensor>& routers);
absl::StatusOr<std::vector<at::Tensor>> LoadLayerRouters(const WorkFolder& work,
                                                         const ModelSpec& dense, int num_experts,
                                                         at::Device device);

// Appends a line to "losses.jsonl", for those who watch: SaveTuneState writes the file anew.
absl::Status AppendLoss(const WorkFolder& work, const LossRow& row);
// All rows of the file; empty where it is not there.
absl::StatusOr<std::vector<LossRow>> ReadLosses(const WorkFolder& work);

}  // namespace pregate

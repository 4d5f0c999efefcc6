#include "refactor/artifact.h"

#include <algorithm>
#include <cmath>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {
namespace {

absl::Status Bad(int layer, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("artifact: layer ", layer, ": ", what));
}

// Marks each neuron in `seen`; a neuron that is marked already is both shared and own, or twice in
// one set.
absl::Status CheckNeurons(int layer, const std::string& set, const std::vector<int32_t>& neurons,
                          std::vector<uint8_t>* seen) {
  const auto width = static_cast<int64_t>(seen->size());
  for (size_t i = 0; i < neurons.size(); ++i) {
    if (neurons[i] < 0 || neurons[i] >= width) {
      return Bad(layer, absl::StrCat(set, "[", i, "] = ", neurons[i], " is no neuron of ", width));
    }
    if ((*seen)[neurons[i]] != 0) {
      return Bad(layer,
                 absl::StrCat(set, "[", i, "] = ", neurons[i], " occurs twice or is shared too"));
    }
    (*seen)[neurons[i]] = 1;
  }
  return absl::OkStatus();
}

absl::Status CheckScale(int layer, const std::string& set, const std::vector<float>& scale,
                        size_t num_neurons) {
  if (scale.empty()) return absl::OkStatus();
  if (scale.size() != num_neurons) {
    return Bad(layer,
               absl::StrCat(set, " has ", scale.size(), " entries for ", num_neurons, " neurons"));
  }
  for (const float x : scale) {
    if (!std::isfinite(x)) return Bad(layer, absl::StrCat(set, " is not finite"));
  }
  return absl::OkStatus();
}

absl::Status CheckLayer(int l, const ArtifactLayer& layer, int num_experts, int intermediate) {
  if (layer.own.size() != static_cast<size_t>(num_experts) ||
      (!layer.own_scale.empty() && layer.own_scale.size() != layer.own.size())) {
    return Bad(l, absl::StrCat(layer.own.size(), " own sets and ", layer.own_scale.size(),
                               " own scales for ", num_experts, " experts"));
  }
  std::vector<uint8_t> shared(intermediate);
  RETURN_IF_ERROR(CheckNeurons(l, "shared", layer.shared, &shared));
  RETURN_IF_ERROR(CheckScale(l, "shared_scale", layer.shared_scale, layer.shared.size()));
  for (int e = 0; e < num_experts; ++e) {
    if (layer.own[e].size() != layer.own[0].size()) {
      return Bad(l, absl::StrCat("own.", e, " has ", layer.own[e].size(), " neurons, own.0 has ",
                                 layer.own[0].size()));
    }
    std::vector<uint8_t> seen = shared;
    RETURN_IF_ERROR(CheckNeurons(l, absl::StrCat("own.", e), layer.own[e], &seen));
    if (layer.own_scale.empty()) continue;
    RETURN_IF_ERROR(
        CheckScale(l, absl::StrCat("own_scale.", e), layer.own_scale[e], layer.own[e].size()));
  }
  return absl::OkStatus();
}

absl::Status CheckRouterTensors(const ModelSpec& spec, const Artifact& artifact, int model_hidden) {
  const bool columns = !artifact.embed_columns.empty();
  if (columns && artifact.embed_columns.size() != static_cast<size_t>(spec.router->hidden)) {
    return absl::InvalidArgumentError(absl::StrCat("artifact: ", artifact.embed_columns.size(),
                                                   " embed_columns for a router of width ",
                                                   spec.router->hidden));
  }
  for (const int32_t column : artifact.embed_columns) {
    if (column >= 0 && column < model_hidden) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("artifact: embed_columns holds ", column, ", the model has ", model_hidden));
  }
  size_t wanted = 0;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    if (tensor.part != TensorPart::kRouter) continue;
    if (columns && tensor.name == "router.embed.weight") continue;
    ++wanted;
    const auto it = artifact.router_tensors.find(tensor.name);
    if (it == artifact.router_tensors.end() || it->second.shape != tensor.shape ||
        static_cast<int64_t>(it->second.values.size()) != tensor.num_elements()) {
      return absl::InvalidArgumentError(
          absl::StrCat("artifact: tensor ", tensor.name, " is missing or of another shape"));
    }
  }
  if (wanted == artifact.router_tensors.size()) return absl::OkStatus();
  return absl::InvalidArgumentError("artifact: holds router tensors that its router does not have");
}

absl::Status CheckDeltas(const ModelSpec& dense, const WeightDeltas& deltas) {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (CanonicalTensor& tensor : CanonicalTensors(dense)) shapes[tensor.name] = tensor.shape;
  for (const auto& [name, delta] : deltas) {
    const auto it = shapes.find(name);
    if (it == shapes.end() || it->second != delta.shape) {
      return absl::InvalidArgumentError(absl::StrCat(
          "artifact: delta of ", name, ", which the model lacks or has in another shape"));
    }
    RETURN_IF_ERROR(CheckDelta(name, delta));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelSpec> RefactoredSpec(const ModelSpec& dense, const Artifact& artifact) {
  if (dense.is_moe())
    return absl::InvalidArgumentError("artifact: the model to apply it to is no dense one");
  if (artifact.layers.size() != static_cast<size_t>(dense.num_layers)) {
    return absl::InvalidArgumentError(absl::StrCat("artifact: has ", artifact.layers.size(),
                                                   " layers, the model ", dense.num_layers));
  }
  ModelSpec spec = dense;
  spec.num_experts = artifact.num_experts();
  if (spec.num_experts < 1) return absl::InvalidArgumentError("artifact: has no experts");
  spec.router = artifact.router;
  for (int l = 0; l < dense.num_layers; ++l) {
    const ArtifactLayer& layer = artifact.layers[l];
    RETURN_IF_ERROR(CheckLayer(l, layer, spec.num_experts, dense.intermediate));
    spec.shared_width.push_back(static_cast<int>(layer.shared.size()));
    spec.own_width.push_back(static_cast<int>(layer.own[0].size()));
  }
  spec.provenance = artifact.provenance;
  RETURN_IF_ERROR(ValidateSpec(spec));
  if (!std::isfinite(artifact.embed_scale))
    return absl::InvalidArgumentError("artifact: embed_scale is not finite");
  RETURN_IF_ERROR(CheckRouterTensors(spec, artifact, dense.hidden));
  RETURN_IF_ERROR(CheckDeltas(dense, artifact.deltas));
  return spec;
}

}  // namespace pregate

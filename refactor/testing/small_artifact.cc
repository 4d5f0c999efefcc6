#include "refactor/testing/small_artifact.h"

#include <utility>

#include "common/model/formats/hf_config.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/spec/tensor_names.h"

namespace pregate {

ModelSpec SmallDenseSpec() {
  const nlohmann::json config = SmallConfig();
  return *ParseDenseConfig(*JsonObject::From(config, "config"));
}

Artifact SmallArtifact(bool columns) {
  Artifact artifact;
  artifact.experts = {"arxiv", "books", "c4"};
  artifact.keep = 0.5;
  artifact.seed = 11;
  artifact.layers = {{.shared = {7, 2},
                      .own = {{0, 1, 3}, {4, 9, 0}, {5, 6, 8}},
                      .shared_scale = {0.5f, 2},
                      .own_scale = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}},
                     {.shared = {}, .own = {{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}, {1, 3, 5, 7, 9}}}};
  artifact.router = {
      .num_layers = 1, .num_heads = 3, .hidden = 6, .intermediate = 5, .normalizer = 1.4142135f};
  if (columns) {
    artifact.embed_columns = {0, 3, 5, 2, 15, 1};
    artifact.embed_scale = 0.25f;
  }
  ModelSpec spec = SmallDenseSpec();
  spec.shared_width = {2, 0};
  spec.own_width = {3, 5};
  AddRandomRouter(std::move(spec), &artifact);
  return artifact;
}

void AddRandomRouter(ModelSpec spec, Artifact* artifact) {
  spec.num_experts = artifact->num_experts();
  spec.router = artifact->router;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    if (tensor.part != TensorPart::kRouter) continue;
    if (!artifact->embed_columns.empty() && tensor.name == "router.embed.weight") continue;
    artifact->router_tensors[tensor.name] = {tensor.shape,
                                             Values(RandomTensor(tensor.name, tensor.shape, 4))};
  }
}

WeightDeltas SmallDeltas() {
  const auto random = [](int64_t rows, int64_t columns, int bits) -> WeightDelta {
    const std::vector<float> values = Values(RandomTensor("delta", {rows, columns}, 6));
    return {.shape = {rows, columns}, .coded = Encode(values, rows, columns, bits)};
  };
  WeightDeltas deltas;
  deltas["model.norm.weight"] = {.shape = {16}, .exact = std::vector<float>(16, 0.5f)};
  deltas["model.layers.1.self_attn.q_proj.weight"] = random(16, 16, 8);
  deltas["model.layers.0.mlp.gate_proj.weight"] = random(10, 16, 3);
  deltas["model.layers.0.mlp.down_proj.weight"] = random(16, 10, 1);
  return deltas;
}

}  // namespace pregate

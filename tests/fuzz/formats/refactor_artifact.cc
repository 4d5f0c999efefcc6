// What `pregate refactor --apply` reads.
#include "common/base/status.h"
#include "common/model/tensor_names.h"
#include "refactor/artifact.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::refactor_artifact {
namespace {

// A dense model of one layer.
ModelSpec TinyDense() {
  ModelSpec spec;
  spec.vocab_size = 3;
  spec.hidden = 4;
  spec.intermediate = 4;
  spec.num_layers = 1;
  spec.num_heads = 2;
  spec.num_kv_heads = 1;
  spec.head_dim = 2;
  spec.max_position = 16;
  spec.eos_tokens = {2};
  return spec;
}

// Two experts. With `columns`, the router's embedding is cut from the model's.
Artifact TinyArtifact(bool columns) {
  Artifact artifact;
  artifact.experts = {"a", "b"};
  artifact.keep = 0.5;
  artifact.layers = {{.shared = {3}, .own = {{0}, {1}}}};
  if (!columns) {
    artifact.layers[0].shared_scale = {2};
    artifact.layers[0].own_scale = {{0.5f}, {1}};
  }
  artifact.router = {.num_layers = 1, .num_heads = 1, .hidden = 2, .intermediate = 1};
  ModelSpec spec = TinyDense();
  spec.num_experts = artifact.num_experts();
  spec.shared_width = {1};
  spec.own_width = {1};
  spec.router = artifact.router;
  for (const CanonicalTensor& tensor : CanonicalTensors(spec)) {
    if (tensor.part != TensorPart::kRouter) continue;
    if (columns && tensor.name == "router.embed.weight") continue;
    artifact.router_tensors[tensor.name] = {tensor.shape,
                                            Values(RandomTensor(tensor.name, tensor.shape, 4))};
  }
  if (columns) artifact.embed_columns = {0, 3};
  return artifact;
}

std::vector<std::string> Seeds() {
  const TempDir dir;
  std::vector<std::string> seeds;
  for (const bool columns : {false, true}) {
    const std::string path = dir.path("artifact.safetensors");
    PREGATE_CHECK(WriteArtifact(TinyArtifact(columns), DType::kF16, path).ok());
    seeds.push_back(ReadFile(path));
  }
  return seeds;
}

bool Run(std::string_view input) {
  static const MemoryFile memory;
  const auto artifact = ReadArtifact(memory.Holding(input));
  return artifact.ok() && RefactoredSpec(TinyDense(), *artifact).ok();
}

const Registration registration({.name = "refactor_artifact",
                                 .seeds = Seeds,
                                 .run = Run,
                                 .mutate = MutateSafetensors,
                                 .bytes_max = 8192});

}  // namespace
}  // namespace pregate::fuzz::refactor_artifact

// What `pregate refactor --apply` reads.
#include "common/base/status.h"
#include "refactor/artifact.h"
#include "refactor/testing/small_artifact.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/mutators.h"
#include "tests/fuzz/tiny_models.h"

namespace pregate::fuzz::refactor_artifact {
namespace {

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
  if (columns) {
    artifact.embed_columns = {0, 3};
    artifact.deltas["model.norm.weight"] = {.shape = {4}, .exact = {1, 2, 3, 4}};
    artifact.deltas["model.layers.0.self_attn.o_proj.weight"] = {
        .shape = {4, 4}, .coded = Encode(std::vector<float>(16, 0.5f), 4, 4, 8)};
    artifact.deltas["model.layers.0.self_attn.q_proj.weight"] = {
        .shape = {4, 4}, .coded = Encode(std::vector<float>(16, 0.5f), 4, 4, 3)};
  }
  ModelSpec spec = TinyDense();
  spec.shared_width = {1};
  spec.own_width = {1};
  AddRandomRouter(std::move(spec), &artifact);
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
  if (!artifact.ok() || !RefactoredSpec(TinyDense(), *artifact).ok()) return false;
  for (const auto& [name, delta] : artifact->deltas) {
    int64_t num = 1;
    for (const int64_t axis : delta.shape) num *= axis;
    std::vector<float> values(num);
    AddDelta(delta, absl::MakeSpan(values));
  }
  return true;
}

const Registration registration({.name = "refactor_artifact",
                                 .seeds = Seeds,
                                 .run = Run,
                                 .mutate = MutateSafetensors,
                                 .bytes_max = 8192});

}  // namespace
}  // namespace pregate::fuzz::refactor_artifact

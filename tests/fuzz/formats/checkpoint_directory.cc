// Directories of the three layouts, one file of which is not what it was: config.json, weights,
// index, manifest.
#include <filesystem>

#include "common/base/status.h"
#include "common/model/checkpoint_writer.h"
#include "common/model/pregate_config.h"
#include "common/model/tensor_names.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::checkpoint_directory {
namespace {

nlohmann::json TinyConfig() {
  nlohmann::json config = SmallConfig();
  config["num_hidden_layers"] = 1;
  config["hidden_size"] = 8;
  config["vocab_size"] = 6;
  config["intermediate_size"] = 4;
  config["max_position_embeddings"] = 16;
  return config;
}

ModelSpec TinySpec() {
  ModelSpec spec;
  spec.vocab_size = 6;
  spec.hidden = 8;
  spec.intermediate = 4;
  spec.num_layers = 1;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.head_dim = 2;
  spec.max_position = 16;
  spec.eos_tokens = {2};
  return spec;
}

void AddHuggingFace(ReplacedFile* files) {
  const std::string dir = files->NewDirectory();
  WriteModel(dir, TinyConfig(), RandomTensors(TinySpec(), 1));
  files->Add(dir, "config.json");
  files->Add(dir, "generation_config.json");
  files->Add(dir, "model.safetensors");
}

// Two shards and their index.
void AddSharded(ReplacedFile* files) {
  const std::string dir = files->NewDirectory();
  WriteModel(dir, TinyConfig(), {});
  std::filesystem::remove(dir + "/model.safetensors");
  std::vector<OutputTensor> shards[2];
  nlohmann::json places;
  for (const auto& [name, tensor] : RandomTensors(TinySpec(), 1)) {
    const size_t shard = places.size() % 2;
    places[name] = shard == 0 ? "model-1.safetensors" : "model-2.safetensors";
    shards[shard].push_back(tensor);
  }
  PREGATE_CHECK(WriteSafetensors(dir + "/model-1.safetensors", shards[0]).ok());
  PREGATE_CHECK(WriteSafetensors(dir + "/model-2.safetensors", shards[1]).ok());
  WriteFile(dir + "/model.safetensors.index.json", nlohmann::json{{"weight_map", places}}.dump());
  files->Add(dir, "model.safetensors.index.json");
  files->Add(dir, "model-2.safetensors");
}

// Our own: an MoE with a router.
void AddOwn(ReplacedFile* files) {
  ModelSpec spec = TinySpec();
  spec.num_experts = 2;
  spec.shared_width = {1};
  spec.own_width = {2};
  spec.router = RouterSpec{.num_heads = 2, .hidden = 4, .intermediate = 4};
  const FloatTensors tensors = RandomTensors(spec, 1);
  const std::string dir = files->NewDirectory();
  const auto source = [&](const CanonicalTensor& tensor, absl::Span<float> out) {
    const std::vector<float> values = Values(tensors.at(tensor.name));
    std::copy(values.begin(), values.end(), out.begin());
    return absl::OkStatus();
  };
  const auto digest = WriteCheckpoint(dir, spec, source, {});
  PREGATE_CHECK(digest.ok(), "", digest.status().ToString());
  files->Add(dir, "config.json");
  files->Add(dir, "manifest.json");
  files->Add(dir, "model.safetensors");
}

const ReplacedFile& Files() {
  static const auto* files = [] {
    auto* out = new ReplacedFile;
    AddHuggingFace(out);
    AddSharded(out);
    AddOwn(out);
    return out;
  }();
  return *files;
}

bool Run(std::string_view input) {
  return Files().Read(input, [](const std::string& dir) {
    const auto checkpoint = Checkpoint::Open(dir);
    if (checkpoint.ok()) Use(**checkpoint);
    return checkpoint.ok();
  });
}

const Registration registration({.name = "checkpoint_directory",
                                 .seeds = [] { return Files().Seeds(); },
                                 .run = Run,
                                 .mutate =
                                     [](std::string_view input, std::mt19937_64& random) {
                                       return Files().Mutate(input, random);
                                     }});

}  // namespace
}  // namespace pregate::fuzz::checkpoint_directory

// Directories of the three layouts (Hugging Face's, the authors', our own), one file of which is
// not what it was: config.json, weights, index, manifest.
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cli/model/authors_layout.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint_writer.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/spec/tensor_names.h"
#include "tests/fuzz/input_files.h"
#include "tests/fuzz/tiny_models.h"
#include "tests/fuzz/use_checkpoint.h"

namespace pregate::fuzz::checkpoint_directory {
namespace {

const int kHidden = TinyDense().hidden, kVocabulary = TinyDense().vocab_size;

nlohmann::json TinyConfig() {
  nlohmann::json config = SmallConfig();
  config["num_hidden_layers"] = 1;
  config["hidden_size"] = kHidden;
  config["num_attention_heads"] = 2;
  config["num_key_value_heads"] = 1;
  config["vocab_size"] = kVocabulary;
  config["intermediate_size"] = 4;
  config["max_position_embeddings"] = 16;
  return config;
}

void AddHuggingFace(ReplacedFile* files) {
  const std::string dir = files->NewDirectory();
  WriteModel(dir, TinyConfig(), RandomTensors(TinyDense(), 1));
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
  for (const auto& [name, tensor] : RandomTensors(TinyDense(), 1)) {
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

// The tensors of one of the authors' experts, or of what all of them share ("residual"). All have
// the same weights, which makes fused ones shared.
void AddAuthorsPart(const std::string& suffix, int64_t width, FloatTensors* tensors) {
  for (const char* projection : {"gate_proj", "up_proj", "down_proj"}) {
    const std::string name =
        absl::StrCat("model.layers.0.moe.", projection, "_", suffix, ".weight");
    const bool down = absl::StartsWith(projection, "down");
    OutputTensor tensor =
        RandomTensor(projection, {down ? kHidden : width, down ? width : kHidden}, 1);
    tensor.entry.name = name;
    (*tensors)[name] = std::move(tensor);
  }
}

// One layer of two experts beside a predictor of one layer and width 2.
FloatTensors AuthorsTensors(bool fused) {
  FloatTensors tensors;
  for (const auto& [name, tensor] : RandomTensors(TinyDense(), 1)) {
    if (!absl::StrContains(name, ".mlp.")) tensors[name] = tensor;
  }
  for (const char* expert : {"0", "1"}) AddAuthorsPart(expert, 2, &tensors);
  if (!fused) AddAuthorsPart("residual", 1, &tensors);
  const auto add = [&](absl::string_view part, std::vector<int64_t> shape) {
    const std::string name = absl::StrCat("cluster_predictor.", part);
    tensors[name] = RandomTensor(name, std::move(shape), 1);
  };
  add("embed.weight", {kVocabulary, 2});
  add("out_layernorm.weight", {2});
  add("proj_out.weight", {2, 2});
  add("proj_out.bias", {2});
  for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
    add(absl::StrCat(name, "_0.weight"), {2});
  }
  for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"}) {
    add(absl::StrCat(name, "_0.weight"), {2, 2});
    add(absl::StrCat(name, "_0.bias"), {2});
  }
  return tensors;
}

void AddAuthors(bool fused, ReplacedFile* files) {
  nlohmann::json config = TinyConfig();
  config.update({{"N_cluster", 2},
                 {"embedding_dim", 2},
                 {"n_layer", 1},
                 {"n_head", 1},
                 {"hidden_act_predictor", "silu"},
                 {"fuse_residual", fused},
                 {"intermediate_size_expert", fused ? 2 : 3}});
  const std::string dir = files->NewDirectory();
  WriteModel(dir, config, AuthorsTensors(fused));
  files->Add(dir, "config.json");
  files->Add(dir, "model.safetensors");
}

// Our own: an MoE with a router.
void AddOwn(ReplacedFile* files) {
  ModelSpec spec = TinyDense();
  spec.num_experts = 2;
  spec.shared_width = {1};
  spec.own_width = {2};
  spec.router = RouterSpec{.num_heads = 1, .hidden = 2, .intermediate = 2};
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
    AddAuthors(/*fused=*/true, out);
    AddAuthors(/*fused=*/false, out);
    AddOwn(out);
    return out;
  }();
  return *files;
}

bool Run(std::string_view input) {
  return Files().Read(input, [](const std::string& dir) {
    const auto checkpoint = OpenCheckpoint(dir);
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
                                     },
                                 .bytes_max = 8192});

}  // namespace
}  // namespace pregate::fuzz::checkpoint_directory

// config.json by itself, of all layouts. (In a directory of files: checkpoint_directory.cc.)
#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/spec/tensor_names.h"
#include "tests/fuzz/format.h"
#include "tests/fuzz/mutators.h"

namespace pregate::fuzz::config {
namespace {

std::vector<std::string> Seeds() {
  nlohmann::json scaled = SmallConfig();
  scaled["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 32}};
  scaled["eos_token_id"] = {2, 3};
  ModelSpec own;
  own.vocab_size = 24;
  own.hidden = 16;
  own.intermediate = 10;
  own.num_layers = 2;
  own.num_heads = 4;
  own.num_kv_heads = 2;
  own.head_dim = 4;
  own.max_position = 64;
  own.eos_tokens = {2};
  own.num_experts = 3;
  own.shared_width = {4, 0};
  own.own_width = {2, 5};
  own.router = RouterSpec{.num_heads = 2, .hidden = 4, .intermediate = 6};
  own.provenance = {.source = "somewhere", .method = "a method"};
  return {SmallConfig().dump(), scaled.dump(), WritePregateConfig(own, std::string(64, 'a'))};
}

absl::StatusOr<ModelSpec> Parse(const nlohmann::json& json, std::string* digest) {
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::From(json, "config.json"));
  return IsPregateConfig(object) ? ParsePregateConfig(object, digest) : ParseDenseConfig(object);
}

// What is written from a spec is read as that spec.
void CheckRewritten(const ModelSpec& spec, const std::string& digest) {
  const std::string text = WritePregateConfig(spec, digest);
  const auto json = ParseJson(text, "rewritten");
  PREGATE_CHECK(json.ok(), "", json.status().ToString());
  std::string read_digest;
  const auto read = Parse(*json, &read_digest);
  PREGATE_CHECK(read.ok(), "", read.status().ToString(), "\n", text);
  PREGATE_CHECK(WritePregateConfig(*read, read_digest) == text, "", text);
}

bool Run(std::string_view input) {
  const auto json = ParseJson(input, "config.json");
  if (!json.ok()) return false;
  std::string digest;
  const auto spec = Parse(*json, &digest);
  if (!spec.ok() || !ValidateSpec(*spec).ok()) return false;
  for (const int context : {1, INT32_MAX}) RopeOf(*spec, context);
  CanonicalTensors(*spec);
  if (digest.empty()) digest = std::string(64, '0');
  CheckRewritten(*spec, digest);
  return true;
}

const Registration registration(
    {.name = "config", .seeds = Seeds, .run = Run, .mutate = MutateJson, .bytes_max = 2048});

}  // namespace
}  // namespace pregate::fuzz::config

#include "common/model/formats/architectures.h"

#include <cmath>

#include "common/model/formats/digest.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/pregate_config.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

absl::StatusOr<ModelSpec> Parse(const std::string& model_type, const json& patch = json::object()) {
  json config = SmallConfig();
  config["model_type"] = model_type;
  config["architectures"] = {FindArchitecture(model_type)->causal_lm};
  config.merge_patch(patch);
  return ParseDenseConfig(*JsonObject::From(config, "config.json"));
}

// What a model of each family may say, beyond SmallConfig.
std::vector<std::pair<std::string, json>> Configs() {
  const json yarn = {{"rope_type", "yarn"},
                     {"factor", 4.0},
                     {"original_max_position_embeddings", 16},
                     {"truncate", false}};
  const json longrope = {{"type", "su"}, {"short_factor", {1.0}}, {"long_factor", {3.5}}};
  return {
      {"llama", {{"attention_bias", true}}},
      {"llama", {{"rope_scaling", yarn}}},
      {"llama", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.5}}}}},
      {"mistral", {{"sliding_window", 16}}},
      {"mistral", {{"sliding_window", nullptr}, {"head_dim", 8}}},
      {"qwen2", {{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}}},
      {"qwen3", {{"attention_bias", true}, {"head_dim", 6}}},
      {"smollm3", {{"no_rope_layers", {0, 1}}}},
      {"phi3",
       {{"partial_rotary_factor", 0.5},
        {"original_max_position_embeddings", 32},
        {"rope_scaling", longrope},
        {"sliding_window", 40}}},
      {"granite",
       {{"embedding_multiplier", 12.0},
        {"residual_multiplier", 0.22},
        {"attention_multiplier", 0.0078125},
        {"logits_scaling", 16.0}}}};
}

// All fields that change numbers are in the digest, so equal digests are equal specs.
std::string Digest(const ModelSpec& spec) { return ModelDigest(spec, {}); }

TEST(ArchitecturesTest, WhatIsWrittenIsReadBackEqual) {
  for (const auto& [model_type, patch] : Configs()) {
    const auto spec = Parse(model_type, patch);
    ASSERT_TRUE(spec.ok()) << model_type << ": " << spec.status();
    ASSERT_TRUE(ValidateSpec(*spec).ok()) << model_type << ": " << ValidateSpec(*spec);
    const json dense = json::parse(DenseConfigJson(*spec).dump());
    const auto again = ParseDenseConfig(*JsonObject::From(dense, "written"));
    ASSERT_TRUE(again.ok()) << dense << ": " << again.status();
    EXPECT_EQ(Digest(*again), Digest(*spec)) << dense;
    EXPECT_EQ(again->architecture, model_type);
    std::string digest;
    const json own = json::parse(WritePregateConfig(*spec, "d"));
    const auto ours = ParsePregateConfig(*JsonObject::From(own, "own"), &digest);
    ASSERT_TRUE(ours.ok()) << own << ": " << ours.status();
    EXPECT_EQ(Digest(*ours), Digest(*spec)) << own;
    EXPECT_EQ(ours->architecture, model_type);
  }
}

TEST(ArchitecturesTest, EveryTraitIsInTheDigest) {
  std::vector<std::string> digests = {Digest(*Parse("llama"))};
  for (const auto& [model_type, patch] : Configs()) {
    const std::string digest = Digest(*Parse(model_type, patch));
    EXPECT_THAT(digests, ::testing::Not(::testing::Contains(digest))) << model_type << patch;
    if (model_type != "mistral" || !patch["sliding_window"].is_null()) digests.push_back(digest);
  }
}

// What transformers 5.24 makes of a config without these fields (tests/compare/config_defaults.py).
TEST(ArchitecturesTest, WhatTheConfigDoesNotSayIsTheClasss) {
  const auto bare = [](const char* model_type, json patch = json::object()) {
    json none = {{"head_dim", nullptr},
                 {"max_position_embeddings", nullptr},
                 {"num_key_value_heads", nullptr},
                 {"rms_norm_eps", nullptr},
                 {"rope_theta", nullptr},
                 {"tie_word_embeddings", nullptr}};
    none.update(patch);
    return *Parse(model_type, none);
  };
  const ModelSpec llama = bare("llama");
  EXPECT_EQ(llama.max_position, 2048);
  EXPECT_EQ(llama.num_kv_heads, llama.num_heads);
  EXPECT_EQ(llama.head_dim, llama.hidden / llama.num_heads);
  EXPECT_FLOAT_EQ(llama.rms_eps, 1e-6f);
  EXPECT_FLOAT_EQ(llama.rope_theta, 10000);
  EXPECT_FALSE(llama.tie_embeddings);
  const ModelSpec mistral = bare("mistral");
  EXPECT_EQ(mistral.max_position, 131072);
  EXPECT_EQ(mistral.num_kv_heads, 8);
  const ModelSpec qwen3 = bare("qwen3");
  EXPECT_EQ(qwen3.max_position, 32768);
  EXPECT_EQ(qwen3.num_kv_heads, 32);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(bare("qwen2").num_kv_heads, 32);
  const ModelSpec smollm3 = bare("smollm3");
  EXPECT_TRUE(smollm3.tie_embeddings);
  EXPECT_FLOAT_EQ(smollm3.rope_theta, 2000000);
  EXPECT_EQ(smollm3.num_kv_heads, 4);
  const json longrope = {{"type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {2.0}}};
  const ModelSpec phi3 =
      bare("phi3", {{"max_position_embeddings", 8192}, {"rope_scaling", longrope}});
  EXPECT_FLOAT_EQ(phi3.rms_eps, 1e-5f);
  EXPECT_EQ(phi3.rope_scaling->original_max_position, 4096);
  EXPECT_FLOAT_EQ(bare("granite").attention_scale(), 1);
}

TEST(ArchitecturesTest, ANullOfKvHeadsIsAsManyAsHeads) {
  json config = SmallConfig();
  config.update({{"model_type", "qwen2"}, {"architectures", {"Qwen2ForCausalLM"}}});
  config["num_key_value_heads"] = nullptr;
  const auto spec = ParseDenseConfig(*JsonObject::From(config, "config.json"));
  EXPECT_EQ(spec->num_kv_heads, spec->num_heads);
}

TEST(ArchitecturesTest, BiasesAreTheFamilys) {
  EXPECT_FALSE(Parse("llama")->qkv_bias);
  EXPECT_TRUE(Parse("llama", {{"attention_bias", true}})->o_bias);
  EXPECT_TRUE(Parse("qwen2")->qkv_bias);
  EXPECT_FALSE(Parse("qwen2")->o_bias);
  EXPECT_TRUE(Parse("qwen3")->qk_norm);
  EXPECT_THAT(Parse("mistral", {{"attention_bias", true}}).status().message(),
              HasSubstr("attention_bias = true"));
}

TEST(ArchitecturesTest, WindowsAreTheFamilys) {
  const json window = {{"sliding_window", 16}};
  EXPECT_THAT(Parse("mistral", window)->windows, ElementsAre(16, 16));
  EXPECT_THAT(Parse("mistral", {{"sliding_window", 64}})->windows, IsEmpty());
  EXPECT_THAT(Parse("mistral", {{"max_position_embeddings", 8192}})->windows,
              ElementsAre(4096, 4096));  // its config class's value
  json none = SmallConfig();             // null, which a patch would take for absence
  none.update({{"model_type", "mistral"},
               {"architectures", {"MistralForCausalLM"}},
               {"max_position_embeddings", 8192},
               {"sliding_window", nullptr}});
  EXPECT_THAT(ParseDenseConfig(*JsonObject::From(none, "config.json"))->windows, IsEmpty());
  EXPECT_THAT(Parse("mistral", {{"sliding_window", 0}}).status().message(),
              HasSubstr("sliding_window"));
  EXPECT_THAT(Parse("qwen2", window)->windows, IsEmpty());
  EXPECT_THAT(
      Parse("qwen2",
            {{"sliding_window", 16}, {"use_sliding_window", true}, {"max_window_layers", 1}})
          ->windows,
      ElementsAre(0, 16));
  const json types = {{"sliding_window", 16},
                      {"use_sliding_window", true},
                      {"layer_types", {"sliding_attention", "full_attention"}}};
  EXPECT_THAT(Parse("qwen3", types)->windows, ElementsAre(16, 0));
  EXPECT_THAT(Parse("smollm3", types)->windows, ElementsAre(16, 0));
  EXPECT_THAT(Parse("qwen3", {{"use_sliding_window", true}, {"layer_types", {"full_attention"}}})
                  .status()
                  .message(),
              HasSubstr("layer_types has 1 entries"));
  EXPECT_THAT(Parse("granite", window).status().message(), HasSubstr("sliding_window = 16"));
  // transformers' mask would have a window, its attention none.
  EXPECT_THAT(Parse("smollm3", {{"sliding_window", 16},
                                {"layer_types", {"sliding_attention", "full_attention"}}})
                  .status()
                  .message(),
              HasSubstr("without use_sliding_window"));
}

TEST(ArchitecturesTest, LayersWithoutPositions) {
  EXPECT_THAT(Parse("smollm3", {{"no_rope_layer_interval", 2}})->no_rope, ElementsAre(false, true));
  EXPECT_THAT(Parse("smollm3", {{"no_rope_layers", {0, 1, 1}}})->no_rope, ElementsAre(true, false));
  EXPECT_THAT(Parse("smollm3", {{"no_rope_layers", {0}}}).status().message(),
              HasSubstr("no_rope_layers has 1 entries"));
  EXPECT_THAT(Parse("qwen3", {{"no_rope_layers", {0, 1}}}).status().message(),
              HasSubstr("no_rope_layers"));
}

TEST(ArchitecturesTest, RotatedInPartAndLongRope) {
  const auto phi3 = Parse("phi3", Configs()[8].second);
  EXPECT_EQ(phi3->rotary_dim, 2);
  EXPECT_THAT(phi3->rope_scaling->long_factors, ElementsAre(3.5f));
  EXPECT_EQ(phi3->rope_scaling->original_max_position, 32);
  EXPECT_FLOAT_EQ(phi3->rope_scaling->attention_factor, std::sqrt(1.2f));
  EXPECT_THAT(Parse("llama", {{"partial_rotary_factor", 0.5}}).status().message(),
              HasSubstr("partial_rotary_factor = 0.5"));
  json inside = Configs()[8].second;
  inside.erase("original_max_position_embeddings");
  inside["rope_scaling"]["original_max_position_embeddings"] = 32;
  EXPECT_THAT(Parse("phi3", inside).status().message(),
              HasSubstr("original_max_position_embeddings = 32 here alone"));
}

}  // namespace
}  // namespace pregate

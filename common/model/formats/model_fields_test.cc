#include "common/model/formats/model_fields.h"

#include <cstdlib>
#include <iostream>
#include <set>

#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const FieldTable* const kTables[] = {&kConfigFields,
                                     &kAuthorsConfigFields,
                                     &kRopeFields,
                                     &kGenerationConfigFields,
                                     &kSpecialTokensMapFields,
                                     &kTokenizerFields,
                                     &kTokenizerConfigFields,
                                     &kGgufFields};

std::vector<std::string> Names(const Fields& row) { return absl::StrSplit(row.names, ' '); }

TEST(ModelFieldsTest, TablesAreWellFormed) {
  for (const FieldTable* table : kTables) {
    std::set<std::string> seen;
    for (const Fields& row : table->rows) {
      for (const std::string& name : Names(row)) {
        EXPECT_TRUE(seen.insert(name).second) << table->file << ": " << name << " twice";
      }
      const bool refused = row.use == FieldUse::kRefused;
      EXPECT_EQ(refused, json::parse(row.neutral, nullptr, false).is_array()) << row.names;
      EXPECT_STRNE(row.why, "");
    }
  }
}

// To write the page anew: PREGATE_PRINT_FIELDS=1 checkpoint_test --gtest_filter='*PageHolds*'.
TEST(ModelFieldsTest, ThePageHoldsTheTables) {
  const std::string tables = FieldsMarkdown();
  if (getenv("PREGATE_PRINT_FIELDS") != nullptr) std::cout << tables;
  EXPECT_THAT(ReadFile("docs/MODELS.md"), HasSubstr(tables));
}

std::string Refusal(const json& object, const FieldTable& table) {
  return std::string(CheckFields(*JsonObject::From(object, "file"), {&table}).message());
}

TEST(ModelFieldsTest, EveryRefusedFieldPassesAtItsNeutralValuesAlone) {
  const json others[] = {true, 7, 0.25, "other", json::array({7}), {{"a", 1}}};
  for (const FieldTable* table : kTables) {
    if (table == &kGgufFields) continue;
    for (const Fields& row : table->rows) {
      if (row.use != FieldUse::kRefused) continue;
      for (const std::string& name : Names(row)) {
        EXPECT_EQ(Refusal({{name, nullptr}}, *table), "");
        for (const json& value : json::parse(row.neutral)) {
          EXPECT_EQ(Refusal({{name, value}}, *table), "") << name << value;
        }
        for (const json& value : others) {
          EXPECT_THAT(Refusal({{name, value}}, *table), HasSubstr("file: " + name + " = "))
              << value;
        }
      }
    }
  }
}

TEST(ModelFieldsTest, RefusesUnknownFieldsByNameAndValue) {
  EXPECT_THAT(Refusal({{"residual_gain", 0.5}}, kConfigFields),
              AllOf(HasSubstr("residual_gain = 0.5"), HasSubstr("not known")));
  EXPECT_EQ(Refusal({{"residual_gain", nullptr}}, kConfigFields), "");
  EXPECT_EQ(Refusal({{"boi_token", "<b>"}}, kTokenizerConfigFields), "");
  EXPECT_THAT(Refusal({{"token", "<b>"}}, kTokenizerConfigFields), HasSubstr("token"));
}

class DirectoryFieldsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const json& patch, const json& generation = {}) {
    json config = SmallConfig();
    if (!patch.is_null()) config.merge_patch(patch);
    WriteModel(dir_.path(), config, RandomSmallTensors(1));
    if (!generation.is_null()) {
      WriteFile(dir_.path("generation_config.json"), generation.dump());
    }
    return Checkpoint::Open(dir_.path());
  }
  std::string Refusal(const json& patch, const json& generation = {}) {
    return std::string(Open(patch, generation).status().message());
  }
  std::vector<TokenId> Ends(const json& patch, const json& generation = {}) {
    const auto checkpoint = Open(patch, generation);
    PREGATE_CHECK(checkpoint.ok(), "", checkpoint.status().ToString());
    return (*checkpoint)->spec().eos_tokens;
  }

  TempDir dir_;
};

// What configs of Llama-2, Llama-3, TinyLlama, SmolLM2 and their finetunes hold beside the shapes.
TEST_F(DirectoryFieldsTest, ReadsWhatTheHubsConfigsHold) {
  EXPECT_EQ(
      Refusal(
          json::parse(
              R"({"_name_or_path":"meta-llama/Llama-2-7b-hf","architectures":["LlamaForCausalLM"],
      "attention_bias":false,"attention_dropout":0.0,"hidden_act":"silu","initializer_range":0.02,
      "is_llama_config":true,"mlp_bias":false,"pretraining_tp":1,"rope_interleaved":false,
      "rope_scaling":null,"torch_dtype":"bfloat16","transformers_version":"4.42.3","use_cache":true,
      "pad_token_id":2,"transformers.js_config":{"dtype":"q4"},"unsloth_version":"2024.9",
      "sliding_window":null,"partial_rotary_factor":1.0,"layer_types":["full_attention"],
      "temperature":1.0,"max_length":20,"quantization_config":null,"auto_map":{}})"),
          json::parse(
              R"({"_from_model_config":true,"bos_token_id":1,"do_sample":true,"temperature":0.6,
      "top_p":0.9,"max_length":4096,"transformers_version":"4.42.3","repetition_penalty":1.1})")),
      "");
}

TEST_F(DirectoryFieldsTest, RefusesWhatIsNoLlama) {
  const std::pair<json, const char*> cases[] = {
      {{{"architectures", {"MistralForCausalLM"}}}, "architectures: \"MistralForCausalLM\""},
      {{{"model_type", "mistral"}}, "architectures: \"LlamaForCausalLM\""},
      {{{"sliding_window", 16}}, "sliding_window = 16"},
      {{{"use_sliding_window", true}}, "use_sliding_window"},
      {{{"layer_types", {"full_attention", "sliding_attention"}}}, "sliding_attention"},
      {{{"attention_multiplier", 0.015625}}, "attention_multiplier"},
      {{{"embedding_multiplier", 12.0}}, "embedding_multiplier = 12.0"},
      {{{"final_logit_softcapping", 30.0}}, "final_logit_softcapping"},
      {{{"qkv_bias", true}}, "qkv_bias = true"},
      {{{"hidden_activation", "gelu_pytorch_tanh"}}, "gelu_pytorch_tanh"},
      {{{"no_rope_layers", {1, 0}}}, "no_rope_layers"},
      {{{"num_local_experts", 8}}, "num_local_experts = 8"},
      {{{"rope_scaling", {{"rope_type", "default"}, {"factor", 4}}}}, "factor 4"},
      {{{"rope_scaling", {{"rope_type", "llama3"}, {"type", "yarn"}}}}, "contradicts"},
      {{{"rope_scaling", {{"rope_type", "default"}, {"mrope_section", {1}}}}}, "mrope_section"},
      {{{"rope_parameters", {{"rope_theta", 5.0}}}}, "rope_theta = 5"},
      {{{"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}}}, "full_attention"},
      {{{"suppress_tokens", {3}}}, "suppress_tokens"}};
  for (const auto& [patch, message] : cases) {
    EXPECT_THAT(Refusal(patch), AllOf(HasSubstr("config.json"), HasSubstr(message))) << patch;
  }
}

TEST_F(DirectoryFieldsTest, NamesTheMethodOfQuantisedWeights) {
  for (const char* method : {"gptq", "awq", "fp8", "bitsandbytes", "compressed-tensors"}) {
    EXPECT_THAT(
        Refusal({{"quantization_config", {{"bits", 4}, {"quant_method", method}}}}),
        HasSubstr(absl::StrCat("config.json: quantization_config.quant_method = \"", method,
                               "\" is not supported: give a checkpoint of F32, F16 or BF16, or a "
                               "GGUF file")));
  }
  EXPECT_THAT(Refusal({{"compression_config", {{"format", "pack-quantized"}}}}),
              HasSubstr("compression_config = {\"format\":\"pack-quantized\"} is not supported: "
                        "give a checkpoint of"));
}

// Where a file beside the config says so: quantize_config.json of GPTQ, for one.
TEST_F(DirectoryFieldsTest, NamesQuantisedWeightsByTheirTensors) {
  for (const char* name : {"q_proj.qweight", "q_proj.g_idx", "q_proj.weight_scale_inv",
                           "q_proj.weight.absmax", "q_proj.weight_packed"}) {
    FloatTensors tensors = RandomSmallTensors(1);
    const std::string full = absl::StrCat("model.layers.0.self_attn.", name);
    tensors[full] = RandomTensor(full, {2}, 1);
    WriteModel(dir_.path(), SmallConfig(), tensors);
    EXPECT_THAT(Checkpoint::Open(dir_.path()).status().message(),
                AllOf(HasSubstr(absl::StrCat("tensor ", full, " at byte")),
                      HasSubstr("quantised weights"), HasSubstr("or a GGUF file")));
  }
}

TEST_F(DirectoryFieldsTest, ReadsWindowsAndScalingsThatChangeNothing) {
  EXPECT_EQ(Refusal({{"sliding_window", 64}}), "");
  EXPECT_EQ(Refusal({{"sliding_window", 16}, {"use_sliding_window", false}}), "");
  EXPECT_EQ(Refusal({{"rope_scaling", {{"type", "linear"}, {"factor", 1.0}}}}), "");
  EXPECT_EQ(Refusal({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}), "");
}

TEST_F(DirectoryFieldsTest, GenerationConfigsEndIdsGoFirst) {
  EXPECT_THAT(Ends({}), ElementsAre(2));
  EXPECT_THAT(Ends({{"eos_token_id", {2, 3}}}), ElementsAre(2, 3));
  EXPECT_THAT(Ends({{"eos_token_id", -1}}), IsEmpty());
  EXPECT_THAT(Ends({}, json::object()), ElementsAre(2));
  EXPECT_THAT(Ends({}, {{"eos_token_id", {4, 5}}}), ElementsAre(4, 5));
  EXPECT_THAT(Refusal({}, {{"eos_token_id", 24}}), HasSubstr("eos_tokens = 24"));
  EXPECT_THAT(Refusal({}, {{"eos_token_id", "x"}}), HasSubstr("generation_config.json"));
  EXPECT_THAT(Refusal({}, {{"forced_eos_token_id", 3}}),
              AllOf(HasSubstr("generation_config.json"), HasSubstr("forced_eos_token_id = 3")));
}

}  // namespace
}  // namespace pregate

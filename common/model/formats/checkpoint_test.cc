#include "common/model/formats/checkpoint.h"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "common/base/status.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class HuggingFaceTest : public ::testing::Test {
 protected:
  std::string Refusal() {
    WriteModel(dir_.path(), config_, tensors_);
    const auto checkpoint = Checkpoint::Open(dir_.path());
    return checkpoint.ok() ? "accepted" : std::string(checkpoint.status().message());
  }
  std::unique_ptr<Checkpoint> OpenOrDie() {
    auto checkpoint = Checkpoint::Open(dir_.path());
    PREGATE_CHECK(checkpoint.ok(), "", checkpoint.status().ToString());
    return *std::move(checkpoint);
  }

  TempDir dir_;
  nlohmann::json config_ = SmallConfig();
  FloatTensors tensors_ = RandomSmallTensors(1);
};

TEST_F(HuggingFaceTest, ReadsEveryTensorAsItIs) {
  ASSERT_EQ(Refusal(), "accepted");
  const auto checkpoint = OpenOrDie();
  EXPECT_EQ(checkpoint->layout(), "hf");
  EXPECT_EQ(checkpoint->spec().head_dim, 4);
  EXPECT_EQ(checkpoint->spec().bos_token, 1);
  EXPECT_THAT(checkpoint->spec().eos_tokens, ElementsAre(2));
  EXPECT_THAT(checkpoint->Tensors(), SizeIs(tensors_.size()));
  for (const auto& [name, tensor] : tensors_) {
    EXPECT_TRUE(checkpoint->Has(name));
    EXPECT_EQ(ReadTensor(*checkpoint, name), Values(tensor)) << name;
  }
  float unused = 0;
  EXPECT_EQ(checkpoint->Read("nothing", absl::MakeSpan(&unused, 1)).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(checkpoint->LoadTokenizer().status().code(), absl::StatusCode::kNotFound);
}

TEST_F(HuggingFaceTest, DigestFollowsContentAndNotTheFile) {
  ASSERT_EQ(Refusal(), "accepted");
  const std::string digest = OpenOrDie()->digest();
  config_["_name_or_path"] = "elsewhere";
  ASSERT_EQ(Refusal(), "accepted");
  EXPECT_EQ(OpenOrDie()->digest(), digest);
  config_["rope_theta"] = 20000.0;
  ASSERT_EQ(Refusal(), "accepted");
  EXPECT_NE(OpenOrDie()->digest(), digest);
  config_["rope_theta"] = 10000.0;
  tensors_["model.norm.weight"].bytes[0] ^= 1;
  ASSERT_EQ(Refusal(), "accepted");
  EXPECT_NE(OpenOrDie()->digest(), digest);
}

TEST_F(HuggingFaceTest, TiedModelsMayStoreTheHeadOrNot) {
  config_["tie_word_embeddings"] = true;
  EXPECT_EQ(Refusal(), "accepted");
  tensors_.erase("lm_head.weight");
  EXPECT_EQ(Refusal(), "accepted");
  EXPECT_FALSE(OpenOrDie()->Has("lm_head.weight"));
}

TEST_F(HuggingFaceTest, ReadsBothDialectsOfRope) {
  const nlohmann::json llama3 = {{"rope_type", "llama3"},
                                 {"factor", 8.0},
                                 {"low_freq_factor", 1.0},
                                 {"high_freq_factor", 4.0},
                                 {"original_max_position_embeddings", 32}};
  config_["rope_scaling"] = llama3;
  ASSERT_EQ(Refusal(), "accepted");
  EXPECT_EQ(OpenOrDie()->spec().rope_scaling->factor, 8);
  const std::string digest = OpenOrDie()->digest();
  config_.erase("rope_scaling");
  config_.erase("rope_theta");
  config_["rope_parameters"] = llama3;
  config_["rope_parameters"]["rope_theta"] = 10000.0;
  ASSERT_EQ(Refusal(), "accepted");
  EXPECT_EQ(OpenOrDie()->digest(), digest);
}

TEST_F(HuggingFaceTest, RefusesByNameWhatWouldComputeAnotherFunction) {
  const std::pair<nlohmann::json, const char*> cases[] = {
      {{{"model_type", "gpt_neox"}}, "gpt_neox"},
      {{{"attention_bias", true}}, "missing tensor model.layers.0.self_attn.q_proj.bias"},
      {{{"qkv_bias", true}}, "qkv_bias = true"},
      {{{"mlp_bias", true}}, "mlp_bias = true"},
      {{{"hidden_act", "gelu"}}, "gelu"},
      {{{"rope_scaling", {{"type", "linear"}, {"factor", -2.0}}}}, "factor = -2"},
      {{{"rope_scaling", {{"type", "cubic"}, {"factor", 2.0}}}}, "cubic"},
      {{{"rope_parameters", {{"rope_type", "yarn"}}}}, "factor"},
      {{{"quantization_config", {{"bits", 4}}}}, "quantization_config"},
      {{{"hidden_size", -16}}, "\"hidden_size\" is -16"},
      {{{"hidden_size", "16"}}, "hidden_size"},
      {{{"vocab_size", 1e30}}, "vocab_size"},
      {{{"num_hidden_layers", 1000000}}, "num_hidden_layers"},
      {{{"num_attention_heads", 5}}, "num_attention_heads = 5"},
      {{{"rms_norm_eps", 0}}, "rms_eps"},
      {{{"eos_token_id", 24}}, "eos_tokens = 24"}};
  for (const auto& [patch, message] : cases) {
    config_ = SmallConfig();
    config_.merge_patch(patch);
    EXPECT_THAT(Refusal(), HasSubstr(message)) << patch;
  }
}

TEST_F(HuggingFaceTest, NamesMissingMisshapenAndUnexpectedTensors) {
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const OutputTensor tensor = tensors_[name];
  tensors_.erase(name);
  EXPECT_THAT(Refusal(), HasSubstr("missing tensor " + name));
  tensors_[name] = RandomTensor(name, {16, 10}, 1);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("tensor " + name + " at byte"),
                               HasSubstr("[16,10], expected [10,16]")));
  tensors_[name] = IntTensor(name, {10, 16}, std::vector<int32_t>(160));
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(name), HasSubstr("integers")));
  tensors_[name] = tensor;
  const std::string bias = "model.layers.0.self_attn.q_proj.bias";
  tensors_[bias] = RandomTensor(bias, {16}, 1);
  EXPECT_THAT(Refusal(), AllOf(HasSubstr(bias), HasSubstr("unexpected")));
}

TEST_F(HuggingFaceTest, RefusesBrokenConfigs) {
  ASSERT_EQ(Refusal(), "accepted");
  const auto refusal = [&](const std::string& text) {
    WriteFile(dir_.path("config.json"), text);
    return std::string(Checkpoint::Open(dir_.path()).status().message());
  };
  EXPECT_THAT(refusal(""), AllOf(HasSubstr("config.json"), HasSubstr("malformed")));
  EXPECT_THAT(refusal("[1]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(refusal(std::string(5000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal(std::string(2 << 20, ' ')), HasSubstr("limit"));
  EXPECT_THAT(refusal(R"({"vocab_size":24,"vocab_size":25})"), HasSubstr("occurs twice"));
  std::filesystem::remove(dir_.path("config.json"));
  EXPECT_EQ(Checkpoint::Open(dir_.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Checkpoint::Open(dir_.path("nothing")).status().code(), absl::StatusCode::kNotFound);
}

// Two shards and an index, which a test then breaks.
class ShardedTest : public HuggingFaceTest {
 protected:
  void SetUp() override {
    WriteFile(dir_.path("config.json"), config_.dump());
    std::vector<OutputTensor> shards[2];
    for (const auto& [name, tensor] : tensors_) {
      const int shard = name.find("layers.1") != std::string::npos ? 1 : 0;
      shards[shard].push_back(tensor);
      index_["weight_map"][name] = kNames[shard];
    }
    for (int shard : {0, 1}) {
      ASSERT_TRUE(WriteSafetensors(dir_.path(kNames[shard]), shards[shard]).ok());
    }
  }
  std::string RefusalOfIndex() {
    WriteFile(dir_.path("model.safetensors.index.json"), index_.dump());
    const auto checkpoint = Checkpoint::Open(dir_.path());
    return checkpoint.ok() ? "accepted" : std::string(checkpoint.status().message());
  }

  static constexpr const char* kNames[] = {"model-1-of-2.safetensors", "model-2-of-2.safetensors"};
  nlohmann::json index_;
};

TEST_F(ShardedTest, ReadsTensorsFromTheirShards) {
  ASSERT_EQ(RefusalOfIndex(), "accepted");
  const auto checkpoint = OpenOrDie();
  for (const auto& [name, tensor] : tensors_)
    EXPECT_EQ(ReadTensor(*checkpoint, name), Values(tensor)) << name;
}

TEST_F(ShardedTest, RefusesAnIndexThatDoesNotMatch) {
  const nlohmann::json good = index_;
  index_["weight_map"]["model.norm.weight"] = kNames[1];
  EXPECT_THAT(RefusalOfIndex(), AllOf(HasSubstr("model.norm.weight"), HasSubstr("is not in")));
  index_ = good;
  index_["weight_map"]["model.norm.weight"] = "../model.safetensors";
  EXPECT_THAT(RefusalOfIndex(), HasSubstr("no plain file name"));
  index_ = good;
  index_["weight_map"]["model.norm.weight"] = "absent.safetensors";
  EXPECT_THAT(RefusalOfIndex(), HasSubstr("absent.safetensors"));
  index_ = good;
  index_["weight_map"]["model.norm.weight"] = 7;
  EXPECT_THAT(RefusalOfIndex(), HasSubstr("model.norm.weight"));
  for (const char* name : {"", ".hidden", "a/b", "a\nb", "/etc/passwd"}) {
    index_ = good;
    index_["weight_map"]["model.norm.weight"] = name;
    EXPECT_THAT(RefusalOfIndex(), HasSubstr("no plain file name")) << name;
  }
}

TEST_F(ShardedTest, NamesEveryMissingShard) {
  std::filesystem::remove(dir_.path(kNames[0]));
  std::filesystem::remove(dir_.path(kNames[1]));
  EXPECT_THAT(RefusalOfIndex(),
              AllOf(HasSubstr(kNames[0]), HasSubstr(kNames[1]), HasSubstr("2 of 2 shards")));
}

// Other copies of a tensor and tensors that the index does not list do not count, whatever they
// are.
TEST_F(ShardedTest, TheIndexAloneDecides) {
  std::vector<OutputTensor> stale;
  for (const auto& [name, tensor] : tensors_) {
    stale.push_back(RandomTensor(name, tensor.entry.shape, 99));
  }
  stale.push_back(RandomTensor("model.layers.0.self_attn.q_proj.bias", {16}, 1));
  const OutputTensor overlay = tensors_["model.norm.weight"];
  ASSERT_TRUE(WriteSafetensors(dir_.path("a-base.safetensors"), stale).ok());
  ASSERT_TRUE(WriteSafetensors(dir_.path("model.safetensors"), stale).ok());
  ASSERT_TRUE(WriteSafetensors(dir_.path("z-overlay.safetensors"), {overlay}).ok());
  WriteFile(dir_.path("b-odd.safetensors"),
            RawSafetensors(R"({"scale":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},)"
                           R"("model.layers.0.input_layernorm.weight":)"
                           R"({"dtype":"F32","shape":[16],"data_offsets":[2,66]}})",
                           "ab" + tensors_["model.layers.0.input_layernorm.weight"].bytes));
  index_["weight_map"]["model.norm.weight"] = "z-overlay.safetensors";
  index_["weight_map"]["model.layers.0.input_layernorm.weight"] = "b-odd.safetensors";
  stale.back() = RandomTensor("unlisted", {3}, 1);
  ASSERT_EQ(RefusalOfIndex(), "accepted");
  const auto checkpoint = OpenOrDie();
  for (const auto& [name, tensor] : tensors_)
    EXPECT_EQ(ReadTensor(*checkpoint, name), Values(tensor)) << name;
}

TEST_F(ShardedTest, ShardsWithoutAnIndexAreNamed) {
  const auto refused = Checkpoint::Open(dir_.path());
  EXPECT_THAT(refused.status().message(), AllOf(HasSubstr(kNames[0]), HasSubstr("index")));
}

TEST_F(HuggingFaceTest, ReadsTheSingleFileAlone) {
  ASSERT_EQ(Refusal(), "accepted");
  WriteFile(dir_.path("consolidated.safetensors"), "anything");
  const auto checkpoint = OpenOrDie();
  EXPECT_EQ(ReadTensor(*checkpoint, "model.norm.weight"), Values(tensors_["model.norm.weight"]));
}

TEST_F(HuggingFaceTest, NamesAnElementTypeThatIsNotRead) {
  ASSERT_EQ(Refusal(), "accepted");
  const auto with_type = [&](const std::string& tensor, const std::string& type) {
    std::string file = ReadFile(dir_.path("model.safetensors"));
    uint64_t size = 0;
    std::memcpy(&size, file.data(), sizeof size);
    nlohmann::json header = nlohmann::json::parse(file.substr(8, size));
    header[tensor]["dtype"] = type;
    WriteFile(dir_.path("model.safetensors"), RawSafetensors(header.dump(), file.substr(8 + size)));
    return std::string(Checkpoint::Open(dir_.path()).status().message());
  };
  EXPECT_THAT(with_type("model.norm.weight", "U32"),
              AllOf(HasSubstr("model.norm.weight"), HasSubstr("U32 is not supported")));
}

TEST_F(HuggingFaceTest, AGitLfsPointerIsCalledSo) {
  ASSERT_EQ(Refusal(), "accepted");
  for (const char* name : {"model.safetensors", "config.json"}) {
    WriteFile(dir_.path(name),
              "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    EXPECT_THAT(Checkpoint::Open(dir_.path()).status().message(),
                AllOf(HasSubstr(name), HasSubstr("Git LFS pointer")));
  }
}

// Any tensor, any change of its shape: refused by its name before anything is made of it.
TEST_F(HuggingFaceTest, RefusesEveryOtherShape) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const FloatTensors good = tensors_;
  for (const auto& [name, tensor] : good) {
    for (const std::vector<int64_t>& shape : OtherShapes(tensor.entry.shape, random)) {
      tensors_ = good;
      tensors_[name] = RandomTensor(name, shape, 1);
      EXPECT_THAT(Refusal(), AllOf(HasSubstr(name), HasSubstr("wrong shape"))) << shape.size();
    }
  }
}

}  // namespace
}  // namespace pregate

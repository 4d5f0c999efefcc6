#include "cli/model/import.h"

#include <algorithm>
#include <filesystem>

#include "cli/model/inspect.h"
#include "cli/model/synth.h"
#include "common/base/status.h"
#include "common/model/formats/checkpoint_writer.h"
#include "common/model/formats/hf_config.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/testing/model_files.h"
#include "common/model/tokenizer/tokenizer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WriteCheckpointTest : public ::testing::Test {
 protected:
  SynthOptions Tiny(const std::string& name) {
    return {.shape = "tiny",
            .experts = 3,
            .shared = 0.3,
            .own = 0.2,
            .seed = 5,
            .out = dir_.path(name)};
  }
  std::unique_ptr<Checkpoint> OpenOrDie(const std::string& name) {
    auto checkpoint = Checkpoint::Open(dir_.path(name));
    PREGATE_CHECK(checkpoint.ok(), "", checkpoint.status().ToString());
    return *std::move(checkpoint);
  }
  std::string Refusal(const std::string& name) {
    return std::string(Checkpoint::Open(dir_.path(name)).status().message());
  }
  void Replace(const std::string& file, const std::string& from, const std::string& to) {
    std::string text = ReadFile(dir_.path(file));
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    WriteFile(dir_.path(file), text.replace(at, from.size(), to));
  }

  TempDir dir_;
};

TEST_F(WriteCheckpointTest, ReadsBackTheSpecItWrote) {
  ModelSpec spec = *SynthSpec(Tiny("x"));
  spec.tie_embeddings = false;
  spec.rope_scaling = {.kind = RopeScalingKind::kFactors, .factors = {1, 1.5f, 2, 3, 5, 8, 8, 8}};
  spec.router->normalizer = 2.8284271f;
  spec.router->activation = RouterActivation::kRelu;
  spec.shared_width = {0, 31, 7};
  spec.own_width = {5, 1, 33};
  spec.provenance = {"a", "b", "c", "d \xff", "e"};
  const auto zeros = [](const CanonicalTensor&, absl::Span<float> out) {
    std::fill(out.begin(), out.end(), 0.0f);
    return absl::OkStatus();
  };
  const auto digest = WriteCheckpoint(dir_.path("x/"), spec, zeros, {});
  ASSERT_TRUE(digest.ok()) << digest.status();
  const auto checkpoint = OpenOrDie("x");
  const ModelSpec& read = checkpoint->spec();
  EXPECT_EQ(checkpoint->digest(), *digest);
  EXPECT_EQ(checkpoint->layout(), "pregate");
  EXPECT_EQ(read.shared_width, spec.shared_width);
  EXPECT_EQ(read.own_width, spec.own_width);
  EXPECT_EQ(read.rope_scaling->factors, spec.rope_scaling->factors);
  EXPECT_EQ(read.rms_eps, spec.rms_eps);
  EXPECT_EQ(read.router->normalizer, spec.router->normalizer);
  EXPECT_EQ(read.router->activation, spec.router->activation);
  EXPECT_EQ(read.router->rms_eps, spec.router->rms_eps);
  EXPECT_EQ(read.provenance.commit, "e");
  EXPECT_EQ(read.eos_tokens, spec.eos_tokens);
}

TEST_F(WriteCheckpointTest, LeavesNothingBehindOnFailure) {
  const ModelSpec spec = *SynthSpec(Tiny("x"));
  const auto fails = [](const CanonicalTensor& tensor, absl::Span<float>) {
    return tensor.layer == 1 ? absl::DataLossError("broken") : absl::OkStatus();
  };
  EXPECT_EQ(WriteCheckpoint(dir_.path("x"), spec, fails, {}).status().message(), "broken");
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path()));
}

TEST_F(WriteCheckpointTest, AnyNumberOfThreadsWritesTheSameFiles) {
  const ModelSpec spec = *SynthSpec(Tiny("x"));
  const auto fill = [](const CanonicalTensor& tensor, absl::Span<float> out) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = tensor.name.size() + i % 97 / 97.0f;
    return absl::OkStatus();
  };
  const auto write = [&](int threads) {
    const std::string to = dir_.path(absl::StrCat("threads-", threads));
    std::vector<uint64_t> done;
    const WriteOptions options{
        .dtype = DType::kBF16, .threads = threads, .progress = [&](const WriteProgress& progress) {
          done.push_back(progress.bytes_done);
        }};
    EXPECT_TRUE(WriteCheckpoint(to, spec, fill, options).ok());
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
    return ReadFile(to + "/manifest.json") + ReadFile(to + "/model.safetensors");
  };
  const std::string alone = write(1);
  for (const int threads : {2, 7, 100}) EXPECT_EQ(write(threads), alone) << threads;
}

TEST_F(WriteCheckpointTest, RefusesATargetThatIsNotEmpty) {
  std::filesystem::create_directory(dir_.path("empty"));
  EXPECT_TRUE(SynthCheckpoint(Tiny("empty")).ok());
  EXPECT_EQ(SynthCheckpoint(Tiny("empty")).status().code(), absl::StatusCode::kAlreadyExists);
  WriteFile(dir_.path("file"), "");
  EXPECT_EQ(SynthCheckpoint(Tiny("file")).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(WriteCheckpointTest, StoresMatricesInTheDtypeAndTheRestInF32) {
  SynthOptions options = Tiny("x");
  options.dtype = DType::kBF16;
  ASSERT_TRUE(SynthCheckpoint(options).ok());
  const auto checkpoint = OpenOrDie("x");
  for (const TensorInfo& tensor : checkpoint->Tensors()) {
    const bool exact = tensor.shape.size() == 1 || tensor.name.rfind("router.", 0) == 0;
    EXPECT_EQ(tensor.stored_type, exact ? "F32" : "BF16") << tensor.name;
  }
  EXPECT_EQ(NativeDType(*checkpoint), DType::kBF16);
}

TEST_F(WriteCheckpointTest, StartNoticesWhatDisagreesWithTheManifest) {
  ASSERT_TRUE(SynthCheckpoint(Tiny("a")).ok());
  Replace("a/config.json", "\"rope_theta\": 10000.0", "\"rope_theta\": 10001.0");
  EXPECT_THAT(Refusal("a"), HasSubstr("records digest"));
  ASSERT_TRUE(SynthCheckpoint(Tiny("b")).ok());
  Replace("b/manifest.json", "model.norm.weight", "model.morn.weight");
  EXPECT_THAT(Refusal("b"), AllOf(HasSubstr("model.norm.weight"), HasSubstr("manifest.json")));
  ASSERT_TRUE(SynthCheckpoint(Tiny("c")).ok());
  std::filesystem::remove(dir_.path("c/manifest.json"));
  EXPECT_THAT(Refusal("c"), HasSubstr("manifest.json"));
}

TEST_F(WriteCheckpointTest, VerifyFindsOneFlippedBit) {
  ASSERT_TRUE(SynthCheckpoint(Tiny("x")).ok());
  EXPECT_TRUE(InspectCheckpoint(dir_.path("x"), true).ok());
  std::string bytes = ReadFile(dir_.path("x/model.safetensors"));
  bytes.back() ^= 1;  // the last tensor: router.proj_out.bias
  WriteFile(dir_.path("x/model.safetensors"), bytes);
  EXPECT_TRUE(InspectCheckpoint(dir_.path("x"), false).ok());
  const auto status = InspectCheckpoint(dir_.path("x"), true).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr("router.proj_out.bias at byte"));
}

// One flipped bit in any tensor, with the checksums of today's exports and without those of older
// ones: reading that tensor names it, reading another does not.
TEST_F(WriteCheckpointTest, ReadingComparesWithTheManifest) {
  ASSERT_TRUE(SynthCheckpoint(Tiny("x")).ok());
  const std::string whole = ReadFile(dir_.path("x/model.safetensors"));
  auto manifest = nlohmann::json::parse(ReadFile(dir_.path("x/manifest.json")));
  for (const bool checksums : {true, false}) {
    if (!checksums) {
      for (auto& entry : manifest["tensors"]) entry.erase("xxh3");
      WriteFile(dir_.path("x/manifest.json"), manifest.dump());
    }
    const auto file = SafetensorsFile::Open(dir_.path("x/model.safetensors"));
    ASSERT_TRUE(file.ok());
    for (const auto& [name, tensor] : (*file)->tensors()) {
      std::string bytes = whole;
      bytes[tensor.offset + tensor.bytes.size() / 2] ^= 4;
      std::filesystem::remove(dir_.path("x/model.safetensors"));  // the open file stays as it was
      WriteFile(dir_.path("x/model.safetensors"), bytes);
      const auto checkpoint = OpenOrDie("x");
      std::vector<float> values(tensor.num_elements());
      const absl::Status status = checkpoint->Read(name, absl::MakeSpan(values));
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << name;
      EXPECT_THAT(status.message(), AllOf(HasSubstr("model.safetensors: tensor " + name),
                                          HasSubstr(checksums ? "XXH3" : "SHA-256")));
      const char* other = name == "model.norm.weight" ? "router.norm.weight" : "model.norm.weight";
      EXPECT_FALSE(ReadTensor(*checkpoint, other).empty());
    }
    WriteFile(dir_.path("x/model.safetensors"), whole);
    const auto checkpoint = OpenOrDie("x");
    for (const auto& [name, tensor] : (*file)->tensors()) {
      for (int time = 0; time < 2; ++time) EXPECT_FALSE(ReadTensor(*checkpoint, name).empty());
    }
  }
}

TEST_F(WriteCheckpointTest, SaysWhatReadingHasCost) {
  ASSERT_TRUE(SynthCheckpoint(Tiny("x")).ok());
  const auto checkpoint = OpenOrDie("x");
  EXPECT_EQ(checkpoint->read_cost().bytes, 0);
  EXPECT_EQ(checkpoint->read_cost().checking, absl::ZeroDuration())
      << "the manifest has the digest";
  int64_t bytes = 0;
  for (const TensorInfo& tensor : checkpoint->Tensors()) {
    EXPECT_FALSE(ReadTensor(*checkpoint, tensor.name).empty());
    bytes += static_cast<int64_t>(tensor.stored_bytes);
  }
  const ReadCost once = checkpoint->read_cost();
  EXPECT_EQ(once.bytes, bytes);
  EXPECT_GT(once.checking, absl::ZeroDuration());
  EXPECT_FALSE(ReadTensor(*checkpoint, "model.norm.weight").empty());
  EXPECT_EQ(checkpoint->read_cost().checking, once.checking) << "checked once";
  EXPECT_GT(checkpoint->read_cost().bytes, bytes);
}

TEST_F(WriteCheckpointTest, InspectCountsParametersAndBytes) {
  ASSERT_TRUE(SynthCheckpoint(Tiny("x")).ok());
  const auto report = InspectCheckpoint(dir_.path("x"), false);
  ASSERT_TRUE(report.ok());
  const int64_t neuron = 3 * 64, layers = 3;  // parameters of one neuron; widths 48 and 32
  const auto& parts = (*report)["params_by_part"];
  EXPECT_EQ(parts["shared"], 48 * neuron * layers);
  EXPECT_EQ(parts["expert"], 3 * 32 * neuron * layers);
  const int64_t total = (*report)["params"]["total"], active = (*report)["params"]["active"];
  EXPECT_EQ(total - active,
            2 * 32 * neuron * layers + (*report)["params"]["router"].get<int64_t>());
  EXPECT_EQ((*report)["bytes_total"], 4 * total);
  EXPECT_EQ((*report)["bytes_expert_unit_max"], 4 * 32 * neuron);
  EXPECT_TRUE((*report)["tokenizer"].get<bool>());
}

TEST_F(WriteCheckpointTest, InspectShowsWhatALlamaHasNot) {
  const auto shown = [&](const std::string& family, const nlohmann::json& patch) {
    nlohmann::json config = SmallConfig();
    config["model_type"] = family;
    config.erase("architectures");
    config.merge_patch(patch);
    const ModelSpec spec = *ParseDenseConfig(*JsonObject::From(config, "config.json"));
    WriteModel(dir_.path(family), config, RandomTensors(spec, 1));
    return (*InspectCheckpoint(dir_.path(family), false))["spec"];
  };
  const auto qwen2 = shown(
      "qwen2", {{"use_sliding_window", true}, {"sliding_window", 16}, {"max_window_layers", 1}});
  EXPECT_EQ(qwen2["qkv_bias"], true);
  EXPECT_FALSE(qwen2.contains("o_bias"));
  EXPECT_EQ(qwen2["window"], nlohmann::ordered_json({0, 16}));
  EXPECT_EQ(shown("qwen3", {{"attention_bias", true}})["qk_norm"], true);
  EXPECT_EQ(shown("smollm3", {{"no_rope_layers", {0, 1}}})["no_rope"],
            nlohmann::ordered_json({true, false}));
  EXPECT_EQ(shown("granite", {{"residual_multiplier", 0.22}})["residual_multiplier"], 0.22);
  EXPECT_EQ(shown("llama", {{"rope_scaling",
                             {{"type", "linear"}, {"factor", 2}}}})["rope_scaling"]["rope_type"],
            "linear");
  const auto llama = shown("llama", nlohmann::json::object());
  for (const char* name : {"qkv_bias", "window", "no_rope", "rope_scaling", "logits_divisor"}) {
    EXPECT_FALSE(llama.contains(name)) << name;
  }
}

TEST_F(WriteCheckpointTest, SynthIsDeterministicAndSane) {
  const auto a = SynthCheckpoint(Tiny("a")), b = SynthCheckpoint(Tiny("b"));
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(*a, *b);
  SynthOptions other = Tiny("c");
  other.seed = 6;
  EXPECT_NE(*SynthCheckpoint(other), *a);
  const auto checkpoint = OpenOrDie("a");
  double mean = 0, square = 0;
  const std::vector<float> gate =
      ReadTensor(*checkpoint, "model.layers.1.mlp.experts.2.gate_proj.weight");
  for (const float x : gate) mean += x / gate.size(), square += x * x / gate.size();
  EXPECT_NEAR(mean, 0, 0.01);
  EXPECT_NEAR(square * 64, 1, 0.1);  // variance 1 / hidden
  EXPECT_NE(gate, ReadTensor(*checkpoint, "model.layers.1.mlp.experts.1.gate_proj.weight"));
  EXPECT_THAT(ReadTensor(*checkpoint, "model.norm.weight"),
              Each(AllOf(::testing::Ge(0.7f), ::testing::Le(1.3f))));
}

TEST_F(WriteCheckpointTest, SynthRefusesByName) {
  SynthOptions options = Tiny("x");
  options.shape = "huge";
  EXPECT_THAT(SynthCheckpoint(options).status().message(), HasSubstr("\"huge\""));
  options = Tiny("x");
  options.own = 1.5;
  EXPECT_THAT(SynthCheckpoint(options).status().message(), HasSubstr("own = 1.5"));
  options.own = 0;
  EXPECT_THAT(SynthCheckpoint(options).status().message(), HasSubstr("own_width = 0"));
}

TEST_F(WriteCheckpointTest, TinyHasATokenizerForItsWholeVocabulary) {
  ASSERT_TRUE(SynthCheckpoint(Tiny("x")).ok());
  const auto checkpoint = OpenOrDie("x");
  const auto tokenizer = checkpoint->LoadTokenizer();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocab_size(), checkpoint->spec().vocab_size);
  const std::string text = "The people came there through the world. \xE2\x82\xAC 12\n";
  const std::vector<TokenId> ids = (*tokenizer)->Encode(text);
  EXPECT_LT(ids.size(), text.size() * 2 / 3);
  EXPECT_EQ((*tokenizer)->Decode(ids), text);
  const ChatMessage message{"user", "hello"};
  EXPECT_TRUE((*tokenizer)->ApplyChatTemplate({&message, 1}, true).ok());
}

TEST_F(WriteCheckpointTest, ImportKeepsEveryBitAndTheTokenizer) {
  const FloatTensors tensors = RandomSmallTensors(9);
  WriteModel(dir_.path("hf"), SmallConfig(), tensors);
  WriteFile(dir_.path("hf/tokenizer.json"), "{}");
  const auto digest =
      ImportCheckpoint({.from = "hf", .in = dir_.path("hf"), .out = dir_.path("ours")});
  ASSERT_TRUE(digest.ok()) << digest.status();
  const auto checkpoint = OpenOrDie("ours");
  EXPECT_EQ(checkpoint->layout(), "pregate");
  EXPECT_EQ(checkpoint->digest(), OpenOrDie("hf")->digest());
  EXPECT_EQ(checkpoint->spec().provenance.source, "hf");
  for (const auto& [name, tensor] : tensors)
    EXPECT_EQ(ReadTensor(*checkpoint, name), Values(tensor)) << name;
  EXPECT_EQ(ReadFile(dir_.path("ours/tokenizer.json")), "{}");
}

TEST_F(WriteCheckpointTest, ImportRefusesValuesBeyondTheDtype) {
  FloatTensors tensors = RandomSmallTensors(9);
  std::vector<float> head = Values(tensors["lm_head.weight"]);
  head[17] = 1e5f;
  tensors["lm_head.weight"] = FloatTensor("lm_head.weight", {24, 16}, head);
  WriteModel(dir_.path("hf"), SmallConfig(), tensors);
  ImportOptions options{.from = "hf", .in = dir_.path("hf"), .out = dir_.path("ours")};
  options.dtype = DType::kF16;
  EXPECT_THAT(
      ImportCheckpoint(options).status().message(),
      HasSubstr("tensor lm_head.weight: element [1,1] = 100000 is beyond the range of f16"));
  EXPECT_FALSE(std::filesystem::exists(dir_.path("ours")));
  options.dtype = DType::kBF16;
  EXPECT_TRUE(ImportCheckpoint(options).ok());
}

TEST_F(WriteCheckpointTest, ImportKeepsTheEndIds) {
  WriteModel(dir_.path("hf"), SmallConfig(), RandomSmallTensors(9));
  WriteFile(dir_.path("hf/generation_config.json"), R"({"eos_token_id": [3, 5]})");
  ASSERT_TRUE(
      ImportCheckpoint({.from = "hf", .in = dir_.path("hf"), .out = dir_.path("ours")}).ok());
  EXPECT_THAT(OpenOrDie("ours")->spec().eos_tokens, ElementsAre(3, 5));
}

TEST_F(WriteCheckpointTest, ImportRefusesAnotherLayout) {
  WriteModel(dir_.path("hf"), SmallConfig(), RandomSmallTensors(9));
  EXPECT_THAT(ImportCheckpoint({.from = "authors", .in = dir_.path("hf"), .out = dir_.path("x")})
                  .status()
                  .message(),
              HasSubstr("is of layout \"hf\", not \"authors\""));
  EXPECT_THAT(ImportCheckpoint({.from = "onnx", .in = dir_.path("hf"), .out = dir_.path("x")})
                  .status()
                  .message(),
              HasSubstr("onnx"));
}

}  // namespace
}  // namespace pregate

#include "refactor/apply.h"

#include "cli/model/import.h"
#include "common/base/status.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "refactor/testing/small_artifact.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

class ApplyArtifactTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteModel(dir_.path("dense"), SmallConfig(), tensors_);
    WriteFile(dir_.path("dense/tokenizer.json"), "{}");
    dense_ = OpenOrDie("dense");
    artifact_.provenance.source_digest = dense_->digest();
  }
  std::unique_ptr<Checkpoint> OpenOrDie(const std::string& name) {
    auto checkpoint = Checkpoint::Open(dir_.path(name));
    PREGATE_CHECK(checkpoint.ok(), "", checkpoint.status().ToString());
    return *std::move(checkpoint);
  }
  // Compares one part's three tensors with the dense neurons, down columns scaled.
  void ExpectPart(const Checkpoint& moe, int layer, const std::string& part,
                  const std::vector<int32_t>& neurons, const std::vector<float>& scale) {
    const std::string mlp = absl::StrCat("model.layers.", layer, ".mlp.");
    const auto width = neurons.size();
    for (const char* name : {"gate_proj.weight", "up_proj.weight"}) {
      const std::vector<float> whole = Values(tensors_.at(mlp + name)),
                               cut = ReadTensor(moe, mlp + part + name);
      ASSERT_EQ(cut.size(), width * 16);
      for (size_t i = 0; i < width; ++i) {
        for (int h = 0; h < 16; ++h) EXPECT_EQ(cut[i * 16 + h], whole[neurons[i] * 16 + h]);
      }
    }
    const std::vector<float> whole = Values(tensors_.at(mlp + "down_proj.weight"));
    const std::vector<float> cut = ReadTensor(moe, mlp + part + "down_proj.weight");
    ASSERT_EQ(cut.size(), width * 16);
    for (size_t i = 0; i < width; ++i) {
      for (int h = 0; h < 16; ++h) {
        EXPECT_EQ(cut[h * width + i], whole[h * 10 + neurons[i]] * (scale.empty() ? 1 : scale[i]));
      }
    }
  }

  TempDir dir_;
  FloatTensors tensors_ = RandomSmallTensors(2);
  std::unique_ptr<Checkpoint> dense_;
  Artifact artifact_ = SmallArtifact(true);
};

TEST_F(ApplyArtifactTest, CutsTheDenseNeurons) {
  ASSERT_TRUE(WriteArtifact(artifact_, DType::kF32, dir_.path("a")).ok());
  const absl::Status status = ApplyArtifact(*dense_, dir_.path("a"), dir_.path("moe"), {});
  ASSERT_TRUE(status.ok()) << status;
  const auto moe = OpenOrDie("moe");
  for (int l = 0; l < 2; ++l) {
    const ArtifactLayer& layer = artifact_.layers[l];
    if (l == 0) ExpectPart(*moe, l, "shared.", layer.shared, layer.shared_scale);
    for (int e = 0; e < 3; ++e) {
      ExpectPart(*moe, l, absl::StrCat("experts.", e, "."), layer.own[e],
                 layer.own_scale.empty() ? std::vector<float>() : layer.own_scale[e]);
    }
  }
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  EXPECT_EQ(ReadTensor(*moe, q), Values(tensors_.at(q)));
  EXPECT_EQ(moe->spec().provenance.source_digest, dense_->digest());
  EXPECT_EQ(ReadFile(dir_.path("moe/tokenizer.json")), "{}");
}

TEST_F(ApplyArtifactTest, CutsTheRoutersEmbeddingFromTheModels) {
  ASSERT_TRUE(ApplyArtifact(*dense_, artifact_, dir_.path("moe"), {}).ok());
  const auto moe = OpenOrDie("moe");
  const std::vector<float> embed = Values(tensors_.at("model.embed_tokens.weight"));
  const std::vector<float> cut = ReadTensor(*moe, "router.embed.weight");
  for (int token = 0; token < 24; ++token) {
    for (int c = 0; c < 6; ++c)
      EXPECT_EQ(cut[token * 6 + c], embed[token * 16 + artifact_.embed_columns[c]] * 0.25f);
  }
  EXPECT_EQ(ReadTensor(*moe, "router.proj_out.weight"),
            artifact_.router_tensors.at("router.proj_out.weight").values);
}

TEST_F(ApplyArtifactTest, AddsWhatTuningAdded) {
  artifact_.deltas = SmallDeltas();
  ASSERT_TRUE(WriteArtifact(artifact_, DType::kF32, dir_.path("a")).ok());
  const absl::Status status = ApplyArtifact(*dense_, dir_.path("a"), dir_.path("moe"), {});
  ASSERT_TRUE(status.ok()) << status;
  // The same as cutting a dense model that has the sums.
  FloatTensors sums = tensors_;
  for (const auto& [name, delta] : artifact_.deltas) {
    std::vector<float> values = Values(tensors_.at(name));
    AddDelta(delta, absl::MakeSpan(values));
    sums[name] = FloatTensor(name, delta.shape, values);
  }
  WriteModel(dir_.path("sums"), SmallConfig(), sums);
  artifact_.deltas.clear();
  ASSERT_TRUE(
      ApplyArtifact(*OpenOrDie("sums"), artifact_, dir_.path("expected"), {.force = true}).ok());
  const auto moe = OpenOrDie("moe"), expected = OpenOrDie("expected");
  for (const TensorInfo& info : expected->Tensors()) {
    EXPECT_EQ(ReadTensor(*moe, info.name), ReadTensor(*expected, info.name)) << info.name;
  }
}

TEST_F(ApplyArtifactTest, TakesTheRoutersOwnEmbedding) {
  Artifact own = SmallArtifact(false);
  own.provenance.source_digest = dense_->digest();
  ASSERT_TRUE(ApplyArtifact(*dense_, own, dir_.path("moe"), {}).ok());
  EXPECT_EQ(ReadTensor(*OpenOrDie("moe"), "router.embed.weight"),
            own.router_tensors.at("router.embed.weight").values);
}

TEST_F(ApplyArtifactTest, RefusesAnotherModelUnlessForced) {
  artifact_.provenance.source_digest = "another";
  const absl::Status status = ApplyArtifact(*dense_, artifact_, dir_.path("moe"), {});
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("another"));
  artifact_.provenance.source_digest = "";  // a foreign checkpoint's own provenance is empty too
  EXPECT_FALSE(ApplyArtifact(*dense_, artifact_, dir_.path("moe"), {}).ok());
  EXPECT_TRUE(ApplyArtifact(*dense_, artifact_, dir_.path("moe"), {.force = true}).ok());
}

TEST_F(ApplyArtifactTest, AcceptsAnImportOfTheModel) {
  const auto digest = ImportCheckpoint(
      {.from = "hf", .in = dir_.path("dense"), .out = dir_.path("import"), .dtype = DType::kBF16});
  ASSERT_TRUE(digest.ok()) << digest.status();
  ASSERT_NE(*digest, dense_->digest());
  const absl::Status status = ApplyArtifact(*OpenOrDie("import"), artifact_, dir_.path("moe"), {});
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(ApplyArtifactTest, RefusesAModelThatIsRefactoredAlready) {
  ASSERT_TRUE(ApplyArtifact(*dense_, artifact_, dir_.path("moe"), {}).ok());
  EXPECT_THAT(
      ApplyArtifact(*OpenOrDie("moe"), artifact_, dir_.path("again"), {.force = true}).message(),
      HasSubstr("no dense one"));
}

}  // namespace
}  // namespace pregate

#include "refactor/artifact.h"

#include <functional>
#include <limits>

#include "common/base/status.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/safetensors_writer.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "refactor/testing/small_artifact.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

TEST(ArtifactTest, IsReadBackAsItWasWritten) {
  const TempDir dir;
  for (const bool columns : {false, true}) {
    Artifact artifact = SmallArtifact(columns);
    artifact.provenance = {"dense", "digest", "method", "data", "commit"};
    ASSERT_TRUE(WriteArtifact(artifact, DType::kF32, dir.path("a")).ok());
    const auto read = ReadArtifact(dir.path("a"));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->experts, artifact.experts);
    EXPECT_EQ(read->keep, artifact.keep);
    EXPECT_EQ(read->seed, artifact.seed);
    EXPECT_EQ(read->provenance.source_digest, "digest");
    EXPECT_EQ(read->router.intermediate, artifact.router.intermediate);
    EXPECT_EQ(read->embed_columns, artifact.embed_columns);
    EXPECT_EQ(read->embed_scale, artifact.embed_scale);
    ASSERT_EQ(read->layers.size(), artifact.layers.size());
    for (size_t l = 0; l < artifact.layers.size(); ++l) {
      EXPECT_EQ(read->layers[l].shared, artifact.layers[l].shared);
      EXPECT_EQ(read->layers[l].own, artifact.layers[l].own);
      EXPECT_EQ(read->layers[l].shared_scale, artifact.layers[l].shared_scale);
      EXPECT_EQ(read->layers[l].own_scale, artifact.layers[l].own_scale);
    }
    for (const auto& [name, tensor] : artifact.router_tensors) {
      EXPECT_EQ(read->router_tensors.at(name).shape, tensor.shape);
      EXPECT_EQ(read->router_tensors.at(name).values, tensor.values);
    }
  }
}

TEST(ArtifactTest, DeltasAreReadBackAsTheyWereWritten) {
  const TempDir dir;
  for (int bits = 1; bits <= kCodeBitsMax; ++bits) {
    Artifact artifact = SmallArtifact(true);
    artifact.deltas = SmallDeltas();
    const std::string down = "model.layers.0.mlp.down_proj.weight";  // of 10 columns
    artifact.deltas[down].coded = Encode(Values(RandomTensor(down, {16, 10}, bits)), 16, 10, bits);
    ASSERT_TRUE(WriteArtifact(artifact, DType::kF32, dir.path("a")).ok());
    const auto read = ReadArtifact(dir.path("a"));
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_EQ(read->deltas.size(), artifact.deltas.size());
    for (const auto& [name, delta] : artifact.deltas) {
      const WeightDelta& other = read->deltas.at(name);
      EXPECT_EQ(other.shape, delta.shape) << name;
      EXPECT_EQ(other.exact, delta.exact) << name;
      EXPECT_EQ(other.coded.bits, delta.coded.bits) << name;
      EXPECT_EQ(other.coded.columns, delta.coded.columns) << name;
      EXPECT_EQ(other.coded.codes, delta.coded.codes) << name;
      EXPECT_EQ(other.coded.scales, delta.coded.scales) << name;
    }
    EXPECT_TRUE(RefactoredSpec(SmallDenseSpec(), *read).ok());
  }
}

// Rewrites the file with one tensor changed, or removed where `breaks` empties its name.
absl::Status ReadBroken(const std::string& path, const std::string& tensor,
                        const std::function<void(OutputTensor&)>& breaks) {
  std::vector<OutputTensor> tensors;
  std::map<std::string, std::string> metadata;
  {
    const auto file = SafetensorsFile::Open(path);
    PREGATE_CHECK(file.ok());
    metadata = (*file)->metadata();
    for (const auto& [name, stored] : (*file)->tensors()) {
      OutputTensor out{{name, stored.type, stored.shape}, std::string(stored.bytes)};
      if (name == tensor) breaks(out);
      if (!out.entry.name.empty()) tensors.push_back(std::move(out));
    }
  }
  const std::string broken = path + ".broken";
  PREGATE_CHECK(WriteSafetensors(broken, tensors, metadata).ok());
  const auto artifact = ReadArtifact(broken);
  return artifact.ok() ? RefactoredSpec(SmallDenseSpec(), *artifact).status() : artifact.status();
}

TEST(ArtifactTest, RefusesFilesWithBrokenDeltas) {
  const TempDir dir;
  Artifact artifact = SmallArtifact(true);
  artifact.deltas = SmallDeltas();
  ASSERT_TRUE(WriteArtifact(artifact, DType::kF32, dir.path("a")).ok());
  const std::string q = "delta.model.layers.1.self_attn.q_proj.weight";
  const auto form = [](std::vector<int32_t> values) {
    return [values = std::move(values)](OutputTensor& t) {
      t = IntTensor(t.entry.name, {static_cast<int64_t>(values.size())}, values);
    };
  };
  struct Case {
    std::string part;
    std::function<void(OutputTensor&)> breaks;
    const char* message;
  };
  const Case cases[] = {
      {"form", form({16, 9}), "q_proj.weight: bits = 9 is not 1 to 8"},
      {"form", form({16, 0}), "q_proj.weight: bits = 0 is not 1 to 8"},
      {"form", form({16}), "q_proj.weight.form has 1 values"},
      {"form", form({INT32_MAX, 8}), "has in another shape"},
      {"form", form({16, 7}), "codes has 256 bytes, 16 rows of 16 codes of 7 bits want 14 each"},
      {"form", [](OutputTensor& t) { t.entry.name = ""; }, "q_proj.weight.form"},
      {"scale", [](OutputTensor& t) { t.entry.name = ""; }, "q_proj.weight.scale"},
      {"codes", [](OutputTensor& t) { t.entry.name = ""; }, "has in another shape"},
      {"codes", [](OutputTensor& t) { t.entry.shape = {256}; }, "has 1 dimensions"},
      {"codes", [](OutputTensor& t) { t.entry.name += ".left"; }, "left is no part of a delta"},
      {"scale", [](OutputTensor& t) { t.bytes[1] = t.bytes[0] = '\x7F'; },  // 3.39e38: is finite
       ""},
      {"scale", [](OutputTensor& t) { t.bytes.replace(0, 2, "\x80\x7F"); },
       "q_proj.weight: scale[0] = inf is not finite"},
  };
  for (const Case& c : cases) {
    const absl::Status status = ReadBroken(dir.path("a"), absl::StrCat(q, ".", c.part), c.breaks);
    EXPECT_EQ(status.ok(), *c.message == 0) << status;
    EXPECT_THAT(status.message(), HasSubstr(c.message));
  }
}

TEST(ArtifactTest, SpecHasTheWidthsOfTheSets) {
  const auto spec = RefactoredSpec(SmallDenseSpec(), SmallArtifact(true));
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->num_experts, 3);
  EXPECT_EQ(spec->shared_width, (std::vector<int>{2, 0}));
  EXPECT_EQ(spec->own_width, (std::vector<int>{3, 5}));
}

TEST(ArtifactTest, RefusesWhatDoesNotFitTheModel) {
  struct Case {
    std::function<void(Artifact&)> breaks;
    const char* message;
  };
  const Case cases[] = {
      {[](Artifact& a) { a.layers.pop_back(); }, "has 1 layers, the model 2"},
      {[](Artifact& a) { a.experts.pop_back(); }, "3 own sets"},
      {[](Artifact& a) { a.layers[1].own[2][0] = 10; },
       "layer 1: own.2[0] = 10 is no neuron of 10"},
      {[](Artifact& a) { a.layers[0].shared[1] = -1; }, "layer 0: shared[1] = -1"},
      {[](Artifact& a) { a.layers[0].shared[1] = a.layers[0].shared[0]; }, "occurs twice"},
      {[](Artifact& a) { a.layers[0].own[1][2] = a.layers[0].own[1][0]; }, "own.1[2]"},
      {[](Artifact& a) { a.layers[0].own[1][0] = a.layers[0].shared[0]; }, "own.1[0]"},
      {[](Artifact& a) { a.layers[0].own[1].pop_back(); }, "own.1 has 2 neurons, own.0 has 3"},
      {[](Artifact& a) { a.layers[0].shared_scale.pop_back(); },
       "shared_scale has 1 entries for 2"},
      {[](Artifact& a) { a.layers[0].own_scale[2][0] = std::numeric_limits<float>::infinity(); },
       "own_scale.2 is not finite"},
      {[](Artifact& a) { a.layers[0].own_scale.pop_back(); }, "2 own scales"},
      {[](Artifact& a) { a.embed_columns[0] = 16; }, "embed_columns holds 16"},
      {[](Artifact& a) { a.embed_columns.pop_back(); }, "embed_columns for a router of width"},
      {[](Artifact& a) { a.embed_columns.clear(); }, "router.embed.weight"},
      {[](Artifact& a) { a.router_tensors.erase("router.norm.weight"); }, "router.norm.weight"},
      {[](Artifact& a) { a.router_tensors["router.norm.weight"].shape = {7}; },
       "router.norm.weight"},
      {[](Artifact& a) {
         a.router_tensors["router.extra"] = {{1}, {0}};
       },
       "does not have"},
      {[](Artifact& a) { a.router.num_heads = 5; }, "router.num_heads"},
      {[](Artifact& a) { a.deltas["model.norm.weights"] = {.shape = {1}, .exact = {1}}; },
       "delta of model.norm.weights, which the model lacks"},
      {[](Artifact& a) { a.deltas["model.norm.weight"] = {.shape = {1}, .exact = {1}}; },
       "delta of model.norm.weight, which the model lacks or has in another shape"},
      {[](Artifact& a) { a.deltas["model.norm.weight"] = {.shape = {16}}; }, "has 0 forms"},
      {[](Artifact& a) {
         a.deltas = SmallDeltas();
         a.deltas["model.layers.0.mlp.down_proj.weight"].coded.codes[1] = -1;
       },
       "down_proj.weight: codes: row 0 ends in byte 255, of which only 2 bits are codes"},
  };
  for (const Case& c : cases) {
    Artifact artifact = SmallArtifact(true);
    c.breaks(artifact);
    EXPECT_THAT(RefactoredSpec(SmallDenseSpec(), artifact).status().message(),
                HasSubstr(c.message));
  }
}

TEST(ArtifactTest, RefusesFilesThatAreNone) {
  const TempDir dir;
  const auto refusal = [&](const std::string& header) {
    const absl::Status written = WriteSafetensors(
        dir.path("a"), {}, {{header.empty() ? "other" : "pregate_artifact", header}});
    EXPECT_TRUE(written.ok());
    return std::string(ReadArtifact(dir.path("a")).status().message());
  };
  EXPECT_THAT(refusal(""), HasSubstr("is no artifact"));
  EXPECT_THAT(refusal("{"), HasSubstr("malformed"));
  EXPECT_THAT(refusal(R"({"version":3})"), HasSubstr("version 3"));
  EXPECT_THAT(refusal(R"({"version":1,"num_experts":1000000})"), HasSubstr("num_experts"));
  EXPECT_THAT(refusal(R"({"version":1,"num_experts":2,"experts":["a"]})"), HasSubstr("2 names"));
  EXPECT_THAT(refusal(R"({"version":1,"num_experts":2})"), HasSubstr("source_digest"));
}

}  // namespace
}  // namespace pregate

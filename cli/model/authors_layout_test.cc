#include "cli/model/authors_layout.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "common/model/formats/checkpoint.h"
#include "common/model/formats/safetensors.h"
#include "common/model/formats/testing/model_files.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kHidden = 16, kFfn = 13, kExperts = 3;
// Dense neurons that each expert of a layer keeps: 2 is kept by all in layer 0, 1 and 12 in
// layer 1.
const std::vector<std::vector<std::vector<int>>> kNeurons = {
    {{0, 2, 5, 6, 7}, {1, 2, 5, 8, 9}, {2, 3, 4, 6, 12}},
    {{0, 1, 5, 6, 12}, {1, 3, 5, 8, 12}, {1, 2, 4, 6, 12}}};
const std::vector<std::vector<int>> kShared = {{2}, {1, 12}};

// A dense model's FFN cut into the authors' fused or split tensors, beside a two-layer predictor.
class AuthorsLayoutTest : public ::testing::Test {
 protected:
  AuthorsLayoutTest() {
    config_["intermediate_size"] = kFfn;
    config_.merge_patch({{"N_cluster", kExperts},
                         {"residual_dim", nullptr},
                         {"intermediate_size_expert", 5},
                         {"add_cluster_predictor", true},
                         {"hidden_act_predictor", "silu"},
                         {"normalizer", 1},
                         {"nonautoregressive", false},
                         {"embedding_dim", 6},
                         {"inter_dim", 6},
                         {"n_layer", 2},
                         {"n_head", 3}});
    for (const auto& [name, tensor] : RandomSmallTensors(7)) {
      if (name.find(".mlp.") == std::string::npos) tensors_[name] = tensor;
    }
    AddPredictor();
  }

  void AddRandom(const std::string& name, std::vector<int64_t> shape) {
    tensors_[name] = RandomTensor(name, std::move(shape), 7);
  }

  void AddPredictor() {
    AddRandom("cluster_predictor.embed.weight", {24, 6});
    AddRandom("cluster_predictor.out_layernorm.weight", {6});
    AddRandom("cluster_predictor.proj_out.weight", {kExperts, 6});
    AddRandom("cluster_predictor.proj_out.bias", {kExperts});
    for (const char* layer : {"0", "1"}) {
      for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj", "proj_1", "proj_2"}) {
        AddRandom(absl::StrCat("cluster_predictor.", name, "_", layer, ".weight"), {6, 6});
        AddRandom(absl::StrCat("cluster_predictor.", name, "_", layer, ".bias"), {6});
      }
      AddRandom(absl::StrCat("cluster_predictor.input_layernorm_", layer, ".weight"), {6});
      AddRandom(absl::StrCat("cluster_predictor.post_attention_layernorm_", layer, ".weight"), {6});
    }
  }

  static float Dense(int layer, int projection, int neuron, int h) {
    return static_cast<float>(((layer * 3 + projection) * kFfn + neuron) * kHidden + h) + 0.25f;
  }

  // Rows (gate, up) or columns (down) of the dense FFN.
  static OutputTensor Cut(const std::string& name, int layer, int projection,
                          const std::vector<int>& neurons) {
    const auto width = static_cast<int64_t>(neurons.size());
    std::vector<float> values(width * kHidden);
    for (int64_t i = 0; i < width; ++i) {
      for (int h = 0; h < kHidden; ++h) {
        values[projection == 2 ? h * width + i : i * kHidden + h] =
            Dense(layer, projection, neurons[i], h);
      }
    }
    return FloatTensor(name,
                       projection == 2 ? std::vector<int64_t>{kHidden, width}
                                       : std::vector<int64_t>{width, kHidden},
                       values);
  }

  void AddPart(int layer, const std::string& suffix, const std::vector<int>& neurons) {
    const char* names[] = {"gate_proj", "up_proj", "down_proj"};
    for (int projection = 0; projection < 3; ++projection) {
      const std::string name =
          absl::StrCat("model.layers.", layer, ".moe.", names[projection], "_", suffix, ".weight");
      tensors_[name] = Cut(name, layer, projection, neurons);
    }
  }

  void AddFused() {
    config_["fuse_residual"] = true;
    for (int l = 0; l < 2; ++l) {
      for (int e = 0; e < kExperts; ++e) AddPart(l, absl::StrCat(e), kNeurons[l][e]);
    }
  }

  static std::vector<int> Own(int layer, int expert) {
    std::vector<int> own;
    for (const int neuron : kNeurons[layer][expert]) {
      if (std::count(kShared[layer].begin(), kShared[layer].end(), neuron) == 0)
        own.push_back(neuron);
    }
    return own;
  }

  void AddSplit() {
    config_["fuse_residual"] = false;
    for (int l = 0; l < 2; ++l) {
      AddPart(l, "residual", kShared[l]);
      for (int e = 0; e < kExperts; ++e) AddPart(l, absl::StrCat(e), Own(l, e));
    }
  }

  absl::StatusOr<std::unique_ptr<Checkpoint>> Open() {
    WriteModel(dir_.path(), config_, tensors_);
    return OpenCheckpoint(dir_.path());
  }
  std::string Refusal() {
    const auto checkpoint = Open();
    return checkpoint.ok() ? "accepted" : std::string(checkpoint.status().message());
  }

  void ExpectPart(const Checkpoint& checkpoint, int layer, const std::string& part,
                  const std::vector<int>& neurons) {
    const char* names[] = {"gate_proj", "up_proj", "down_proj"};
    for (int projection = 0; projection < 3; ++projection) {
      const std::string name =
          absl::StrCat("model.layers.", layer, ".mlp.", part, ".", names[projection], ".weight");
      EXPECT_EQ(ReadTensor(checkpoint, name), Values(Cut("", layer, projection, neurons))) << name;
    }
  }

  void ExpectSplitModel(const Checkpoint& checkpoint) {
    EXPECT_EQ(checkpoint.layout(), "authors");
    EXPECT_THAT(checkpoint.spec().shared_width, ElementsAre(1, 2));
    EXPECT_THAT(checkpoint.spec().own_width, ElementsAre(4, 3));
    for (int l = 0; l < 2; ++l) {
      ExpectPart(checkpoint, l, "shared", kShared[l]);
      for (int e = 0; e < kExperts; ++e)
        ExpectPart(checkpoint, l, absl::StrCat("experts.", e), Own(l, e));
    }
  }

  TempDir dir_;
  nlohmann::json config_ = SmallConfig();
  FloatTensors tensors_;
};

TEST_F(AuthorsLayoutTest, ReadsTheSplitLayoutWithAWidthOfItsOwnForEachLayer) {
  AddSplit();
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ExpectSplitModel(**checkpoint);
}

TEST_F(AuthorsLayoutTest, SplitsTheFusedLayoutAgain) {
  AddFused();
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ExpectSplitModel(**checkpoint);
}

TEST_F(AuthorsLayoutTest, KeepsWholeExpertsWhereNothingIsSharedAnyMore) {
  AddFused();
  for (int l = 0; l < 2; ++l) {  // as tuning does: one weight of each neuron of expert 1 moves
    OutputTensor& up = tensors_[absl::StrCat("model.layers.", l, ".moe.down_proj_1.weight")];
    for (char& byte : up.bytes) byte ^= 1;
  }
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->spec().shared_width, ElementsAre(0, 0));
  EXPECT_THAT((*checkpoint)->spec().own_width, ElementsAre(5, 5));
  EXPECT_FALSE((*checkpoint)->Has("model.layers.0.mlp.shared.up_proj.weight"));
  ExpectPart(**checkpoint, 1, "experts.2", kNeurons[1][2]);
}

TEST_F(AuthorsLayoutTest, LeavesEachOfEqualExpertsANeuronOfItsOwn) {
  config_["fuse_residual"] = true;
  for (int l = 0; l < 2; ++l) {
    for (int e = 0; e < kExperts; ++e) AddPart(l, absl::StrCat(e), kNeurons[l][0]);
  }
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->spec().shared_width, ElementsAre(4, 4));
  EXPECT_THAT((*checkpoint)->spec().own_width, ElementsAre(1, 1));
}

TEST_F(AuthorsLayoutTest, AcceptsASplitLayoutWithoutSharedNeurons) {
  config_["fuse_residual"] = false;
  for (int l = 0; l < 2; ++l) {
    AddPart(l, "residual", {});
    for (int e = 0; e < kExperts; ++e) AddPart(l, absl::StrCat(e), kNeurons[l][e]);
  }
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_THAT((*checkpoint)->spec().shared_width, ElementsAre(0, 0));
  EXPECT_THAT((*checkpoint)->spec().own_width, ElementsAre(5, 5));
}

TEST_F(AuthorsLayoutTest, ReadsThePredictorUnderTheRoutersNames) {
  AddFused();
  config_["rope_theta"] = 5000.0;
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const RouterSpec& router = *(*checkpoint)->spec().router;
  EXPECT_EQ(router.num_layers, 2);
  EXPECT_EQ(router.num_heads, 3);
  EXPECT_EQ(router.hidden, 6);
  EXPECT_EQ(router.rope_theta, 5000);  // the backbone's
  EXPECT_FLOAT_EQ(router.rms_eps, 1e-6f);
  const std::pair<const char*, const char*> names[] = {
      {"router.embed.weight", "embed.weight"},
      {"router.norm.weight", "out_layernorm.weight"},
      {"router.proj_out.bias", "proj_out.bias"},
      {"router.layers.1.k_proj.bias", "k_proj_1.bias"},
      {"router.layers.0.proj_2.weight", "proj_2_0.weight"},
      {"router.layers.1.post_attention_layernorm.weight", "post_attention_layernorm_1.weight"}};
  for (const auto& [ours, theirs] : names) {
    EXPECT_EQ(ReadTensor(**checkpoint, ours),
              Values(tensors_[absl::StrCat("cluster_predictor.", theirs)]))
        << ours;
  }
}

TEST_F(AuthorsLayoutTest, RefusesByName) {
  AddSplit();
  const nlohmann::json config = config_;
  const std::pair<nlohmann::json, const char*> cases[] = {
      {{{"nonautoregressive", true}}, "nonautoregressive = true"},
      {{{"add_cluster_predictor", false}}, "add_cluster_predictor"},
      {{{"hidden_act_predictor", "gelu"}}, "gelu"},
      {{{"inter_dim", 12}}, "inter_dim = 12"},
      {{{"fuse_residual", true}}, "fuse_residual"},
      {{{"intermediate_size_expert", 6}}, "intermediate_size_expert is 6"},
      {{{"N_cluster", 4}}, "moe.gate_proj_3.weight"},
      {{{"N_cluster", 0}}, "N_cluster"},
      {{{"n_head", 4}}, "router.num_heads = 4"},
      {{{"n_layer", 3}}, "missing tensor router.layers.2"}};
  for (const auto& [patch, message] : cases) {
    config_ = config;
    config_.merge_patch(patch);
    EXPECT_THAT(Refusal(), HasSubstr(message)) << patch;
  }
}

TEST_F(AuthorsLayoutTest, NamesTensorsOfWrongShape) {
  AddSplit();
  const std::string up = "model.layers.1.moe.up_proj_0.weight",
                    gate = "model.layers.1.moe.gate_proj_2.weight";
  const OutputTensor good = tensors_[up];
  AddRandom(up, {4, kHidden});
  EXPECT_THAT(Refusal(),
              AllOf(HasSubstr("tensor " + up + " at byte"), HasSubstr("expected [3,16]")));
  tensors_[up] = good;
  AddRandom(gate, {4, kHidden});
  EXPECT_THAT(Refusal(), AllOf(HasSubstr("tensor " + gate), HasSubstr("expected [3,16]")));
}

TEST(GoldenTest, AuthorsLayoutHoldsTheDenseModelsNeurons) {
  const std::string golden = SharedDir() + "/golden/gqa_split";
  if (SharedDir().empty() || !std::filesystem::exists(golden)) GTEST_SKIP() << "no golden cases";
  const auto dense = Checkpoint::Open(golden + "/dense");
  const auto moe = OpenCheckpoint(golden + "/moe_authors_layout");
  const auto sets = SafetensorsFile::Open(golden + "/neuron_sets.safetensors");
  ASSERT_TRUE(dense.ok() && moe.ok() && sets.ok())
      << dense.status() << moe.status() << sets.status();
  const ModelSpec& spec = (*moe)->spec();
  EXPECT_EQ((*moe)->layout(), "authors");
  EXPECT_EQ(spec.num_experts, 4);
  EXPECT_THAT(spec.shared_width, ElementsAre(32, 32, 32));
  EXPECT_THAT(spec.own_width, ElementsAre(48, 48, 48));
  EXPECT_EQ(spec.router->activation, RouterActivation::kRelu);
  EXPECT_FLOAT_EQ(spec.router->normalizer, std::sqrt(8.0f));
  const int hidden = spec.hidden;
  for (int l = 0; l < spec.num_layers; ++l) {
    const std::string mlp = absl::StrCat("model.layers.", l, ".mlp.");
    const std::vector<float> gate = ReadTensor(**dense, mlp + "gate_proj.weight");
    const auto check = [&](const std::string& set, const std::string& part) {
      const std::vector<int32_t> neurons = *(*sets)->ReadInts(set);
      const std::vector<float> cut = ReadTensor(**moe, mlp + part + ".gate_proj.weight");
      for (size_t i = 0; i < neurons.size(); ++i) {
        for (int h = 0; h < hidden; ++h)
          ASSERT_EQ(cut[i * hidden + h], gate[neurons[i] * hidden + h]);
      }
    };
    check(absl::StrCat(l, ".residual"), "shared");
    for (int e = 0; e < 4; ++e) check(absl::StrCat(l, ".expert.", e), absl::StrCat("experts.", e));
  }
}

}  // namespace
}  // namespace pregate

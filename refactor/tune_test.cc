#include "refactor/tune.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "common/base/status.h"
#include "common/model/formats/testing/model_files.h"
#include "expert_service/testing/random_model.h"
#include "refactor/baselines.h"
#include "refactor/batches.h"
#include "refactor/evaluate.h"
#include "refactor/expert_model.h"
#include "refactor/refactor_run.h"
#include "refactor/router_train.h"
#include "refactor/tune_state.h"

namespace pregate {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kWindow = 24, kExperts = 2;

// Domain d counts in steps of d + 1, from anywhere: learnable, and each domain in its own way.
Corpus Counting(int windows, uint32_t seed) {
  Corpus corpus{.domains = {"ones", "twos"}, .window_tokens = kWindow};
  std::mt19937 random(seed);
  for (int d = 0; d < kExperts; ++d) {
    for (int w = 0; w < windows; ++w) {
      TokenId token = static_cast<TokenId>(random() % 131);
      for (int t = 0; t < kWindow; ++t) {
        corpus.tokens.push_back(token);
        token = (token + d + 1) % 131;
      }
      corpus.window_domain.push_back(d);
    }
  }
  return corpus;
}

// 15 shared neurons and 15 of each expert's own, of 45.
Artifact MakeSplit(const Checkpoint& dense, const Corpus& corpus,
                   const RouterTrainOptions& router) {
  Artifact artifact{.experts = corpus.domains, .keep = 30.0 / 45};
  for (int l = 0; l < dense.spec().num_layers; ++l) {
    ArtifactLayer& layer = artifact.layers.emplace_back();
    layer.shared.resize(15);
    std::iota(layer.shared.begin(), layer.shared.end(), 0);
    layer.own.assign(kExperts, std::vector<int32_t>(15));
    for (int e = 0; e < kExperts; ++e) {
      std::iota(layer.own[e].begin(), layer.own[e].end(), 15 + 15 * e);
    }
  }
  std::vector<float> embedding = ReadTensor(dense, "model.embed_tokens.weight");
  const std::vector<float> scores(corpus.tokens.size() * kExperts, 0.f);
  auto trained =
      TrainRouter(embedding, dense.spec().hidden, corpus, scores, kExperts, 10000, router, [] {});
  PREGATE_CHECK(trained.ok(), "", trained.status().ToString());
  artifact.router = trained->spec;
  artifact.embed_columns = trained->embed_columns;
  artifact.embed_scale = trained->embed_scale;
  artifact.router_tensors = trained->tensors;
  artifact.provenance.source_digest = "dense";
  return artifact;
}

class TuneTest : public testing::Test {
 protected:
  TuneTest() : dense_(MakeRandomModel(TinySpec(0), 3)) {
    at::set_num_threads(1);
    router_ = {.heads = 2, .intermediate = 16, .steps = 30, .batch_windows = 4, .seed = 1};
    split_ = MakeSplit(*dense_, tuning_, router_);
    options_ = {.tokens = 40 * 8 * kWindow,
                .batch_windows = 8,
                .micro_windows = 3,
                .rate = 3e-3,
                .artifact_bytes = 0,
                .seed = 5,
                .save_every = absl::InfiniteDuration()};
  }

  std::unique_ptr<WorkFolder> Folder(const std::string& name) {
    auto folder = WorkFolder::Open(dir_.path(name));
    PREGATE_CHECK(folder.ok(), "", folder.status().ToString());
    return *std::move(folder);
  }
  // As often as it takes, each time for `steps` steps.
  absl::Status Run(WorkFolder& work, int steps) {
    for (;;) {
      int left = steps;
      const auto done = Tune(
          {*dense_, split_, tuning_, tuning_, router_, {{"keep", 0.5}}, false, 0, false, teacher_},
          options_, work, clock_, [&] { return left-- == 0; }, [](double, double) {});
      if (!done.ok()) return done.status();
      if (*done) return absl::OkStatus();
    }
  }
  static float Scale(int neuron) { return 0.75f + 0.01f * static_cast<float>(neuron); }
  // What a baseline is tuned from. One set: the neurons 5 to 34.
  Artifact BaselineSplit(const std::string& name) {
    std::vector<int32_t> one_set(30);
    std::iota(one_set.begin(), one_set.end(), 5);
    Artifact artifact = split_;
    std::vector<LayerNeurons> neurons = BaselineNeurons(name, split_, {one_set, one_set}, 45, 4);
    std::vector<LayerScales> scales(neurons.size());
    for (size_t l = 0; l < neurons.size(); ++l) {  // of each neuron another one
      for (const int32_t n : neurons[l].shared) scales[l].shared.push_back(Scale(n));
      scales[l].own.resize(kExperts);
      for (int e = 0; e < kExperts; ++e) {
        for (const int32_t n : neurons[l].own[e]) scales[l].own[e].push_back(Scale(n));
      }
    }
    artifact.layers = BaselineLayers(std::move(neurons), std::move(scales), 1);
    return artifact;
  }
  absl::StatusOr<std::vector<BaselineQuality>> RunBaseline(const std::string& name,
                                                           WorkFolder& work, int steps) {
    const Artifact split = BaselineSplit(name);
    const bool layer_routers = name == "layer-router", nll_alone = name == "parent-text";
    const nlohmann::json inputs = {{"baseline", name}};
    for (bool done = false; !done;) {
      int left = steps;
      ASSIGN_OR_RETURN(
          done,
          Tune(
              {*dense_, split, tuning_, tuning_, router_, inputs, layer_routers, 0, nll_alone},
              options_, work, clock_, [&] { return left-- == 0; }, [](double, double) {}));
    }
    ASSIGN_OR_RETURN(const Artifact artifact, ReadArtifact(work.File("artifact.safetensors")));
    for (;;) {  // a domain at a time
      bool stop = false;
      StageHooks hooks{.stop = [&] { return std::exchange(stop, true); }};
      ASSIGN_OR_RETURN(auto quality, EvaluateBaseline(*dense_, artifact, layer_routers, held_out_,
                                                      "cpu", inputs, work, hooks));
      if (quality) return *std::move(quality);
    }
  }
  std::vector<DomainQuality> Quality(WorkFolder& work) {
    const auto artifact = ReadArtifact(work.File("artifact.safetensors"));
    PREGATE_CHECK(artifact.ok(), "", artifact.status().ToString());
    auto quality =
        Evaluate(*dense_, split_, *artifact, held_out_, "cpu", {{"keep", 0.5}}, work, {});
    PREGATE_CHECK(quality.ok(), "", quality.status().ToString());
    return **quality;
  }

  // A mean over the held-out windows of a domain, from the logits alone.
  double HeldOutNll(const CausalModel& model, int domain, const at::Tensor& routes) {
    const at::NoGradGuard no_grad;
    double sum = 0;
    for (int w = 0; w < held_out_.num_windows(); ++w) {
      if (held_out_.window_domain[w] != domain) continue;
      const at::Tensor p =
          model.Logits(model.Hidden(WindowIds(held_out_, w, 1, at::kCPU), routes)).softmax(-1);
      const auto window = held_out_.Window(w);
      for (int t = 0; t + 1 < kWindow; ++t) sum -= std::log(p[t][window[t + 1]].item<double>());
    }
    return sum / (6 * (kWindow - 1));
  }

  TempDir dir_;
  ManualClock clock_;
  std::unique_ptr<InMemoryCheckpoint> dense_;
  const Corpus tuning_ = Counting(40, 7), held_out_ = Counting(6, 99);
  RouterTrainOptions router_;
  Artifact split_;
  const WeightDeltas* teacher_ = nullptr;
  TuneOptions options_;
};

TEST_F(TuneTest, HeldOutTextIsPredictedBetterThanBefore) {
  const auto work = Folder("work");
  const absl::Status status = Run(*work, 1000);
  ASSERT_TRUE(status.ok()) << status;
  for (const DomainQuality& q : Quality(*work)) {
    EXPECT_LT(q.own_nll, q.cut_nll - 0.3) << q.domain;
    EXPECT_LT(q.routed_nll, q.cut_nll - 0.3) << q.domain;
    EXPECT_LE(q.best_nll, q.own_nll);
    EXPECT_LE(q.best_nll, q.nearest_nll);
  }
  const auto losses = ReadLosses(*work);
  ASSERT_TRUE(losses.ok());
  ASSERT_EQ(losses->size(), 40u);
  EXPECT_LT(losses->back().nll, losses->front().nll);
  EXPECT_EQ(losses->front().round, 0);
  EXPECT_EQ(losses->back().round, 1);
}

// A random parent teaches nothing of the text; one that was tuned on it does.
TEST_F(TuneTest, ATeacherTeachesTheText) {
  options_.text_loss = 0;  // the divergence alone
  const auto teacher = Folder("teacher"), plain = Folder("plain"), taught = Folder("taught");
  const auto of_teacher = RunBaseline("parent-text", *teacher, 1000);
  ASSERT_TRUE(of_teacher.ok()) << of_teacher.status();
  const auto artifact = ReadArtifact(teacher->File("artifact.safetensors"));
  ASSERT_TRUE(artifact.ok()) << artifact.status();
  ASSERT_TRUE(Run(*plain, 1000).ok());
  teacher_ = &artifact->deltas;
  ASSERT_TRUE(Run(*taught, 1000).ok());
  const auto before = Quality(*plain), after = Quality(*taught);
  for (size_t d = 0; d < after.size(); ++d) {
    EXPECT_LT(after[d].routed_nll, before[d].routed_nll - 0.3) << after[d].domain;
  }
}

TEST_F(TuneTest, WhereARunWasStoppedDoesNotChangeABit) {
  const auto whole = Folder("whole"), pieces = Folder("pieces");
  ASSERT_TRUE(Run(*whole, 1000).ok());
  const absl::Status status = Run(*pieces, 7);  // within rounds and at their borders
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(ReadFile(whole->File("artifact.safetensors")),
            ReadFile(pieces->File("artifact.safetensors")));
  EXPECT_EQ(ReadFile(whole->File("losses.jsonl")), ReadFile(pieces->File("losses.jsonl")));
}

// The last 30 windows of domain 1 count as the parent's: then its text is windows 40 to 49.
TEST_F(TuneTest, OfSampledWindowsTheDivergenceCountsAlone) {
  constexpr int kSampled = 30;
  const auto run = [&](WorkFolder& work, int steps) -> absl::Status {
    for (bool done = false; !done;) {
      int left = steps;
      ASSIGN_OR_RETURN(
          done, Tune(
                    {.dense = *dense_,
                     .split = split_,
                     .tuning = tuning_,
                     .router_text = tuning_,
                     .router = router_,
                     .inputs = {{"keep", 0.5}},
                     .sampled_windows = kSampled},
                    options_, work, clock_, [&] { return left-- == 0; }, [](double, double) {}));
    }
    return absl::OkStatus();
  };
  const auto whole = Folder("whole"), pieces = Folder("pieces");
  ASSERT_TRUE(run(*whole, 1000).ok());
  ASSERT_TRUE(run(*pieces, 7).ok());
  EXPECT_EQ(ReadFile(whole->File("artifact.safetensors")),
            ReadFile(pieces->File("artifact.safetensors")));
  const auto losses = ReadLosses(*whole);
  ASSERT_TRUE(losses.ok());
  for (const LossRow& row : *losses) {
    EXPECT_NEAR(row.loss, 0.8 * row.divergence + 0.2 * row.nll / 2, 1e-5) << row.step;
  }
  // The first step's figures by hand, from the windows that it has.
  const at::NoGradGuard no_grad;
  const auto parent = CausalModel::Load(*dense_, kWindow, at::kCPU, at::kFloat, at::kFloat);
  const auto student = LoadExperts(*dense_, split_, kWindow, {}, at::kFloat);
  ASSERT_TRUE(parent.ok() && student.ok());
  double divergence = 0, nll = 0;
  for (const int32_t w : Batches(tuning_, kSampled, options_.text_share, options_.seed)
                             .Of(0, options_.batch_windows)) {
    const at::Tensor ids = WindowIds(tuning_, w, 1, at::kCPU);
    const TokenLosses of = LossesOf(*student, AskParent(*parent, ids), ids,
                                    at::full_like(ids, tuning_.window_domain[w]));
    divergence += of.divergence.mean().item<double>() / 8;
    if (w < 2 * 40 - kSampled) nll += of.nll.sum().item<double>() / (4 * (kWindow - 1));
  }
  EXPECT_NEAR(losses->front().divergence, divergence, 1e-5);
  EXPECT_NEAR(losses->front().nll, nll, 1e-5);
}

TEST_F(TuneTest, TheParentOnTextAlonePredictsItBest) {
  const auto with_divergence = Folder("parent"), alone = Folder("parent-text");
  const auto held = RunBaseline("parent", *with_divergence, 1000);
  const auto free = RunBaseline("parent-text", *alone, 1000);
  ASSERT_TRUE(held.ok() && free.ok());
  for (int d = 0; d < kExperts; ++d) EXPECT_LT((*free)[d].nll, (*held)[d].nll);
  const auto losses = ReadLosses(*alone);
  ASSERT_TRUE(losses.ok());
  for (const LossRow& row : *losses) EXPECT_NEAR(row.loss, row.nll, 1e-6);
}

TEST_F(TuneTest, BaselinesThatWereStoppedHaveTheSameBytes) {
  for (const char* name : kBaselines) {
    const auto whole = Folder(absl::StrCat("whole-", name)),
               pieces = Folder(absl::StrCat("pieces-", name));
    const auto quality = RunBaseline(name, *whole, 1000);
    ASSERT_TRUE(quality.ok()) << quality.status();
    ASSERT_TRUE(RunBaseline(name, *pieces, 7).ok());
    std::vector<std::string> files = {"artifact.safetensors", "losses.jsonl", "evaluate.json"};
    if (name == std::string("layer-router")) files.push_back("layer-routers.safetensors");
    for (const std::string& file : files) {
      EXPECT_EQ(ReadFile(whole->File(file)), ReadFile(pieces->File(file))) << name << " " << file;
    }
    ASSERT_EQ(quality->size(), 2u);
    const auto parent = CausalModel::Load(*dense_, kWindow, at::kCPU, at::kFloat, at::kFloat);
    ASSERT_TRUE(parent.ok());
    for (int d = 0; d < kExperts; ++d) {
      EXPECT_LT((*quality)[d].nll, HeldOutNll(*parent, d, {}) - 0.3) << name;
    }
  }
}

// Of one set: the dense model as it lies in the artifact, with what is dropped cut out by hand.
TEST_F(TuneTest, ABaselineOfOneSetIsScoredAsTheDenseModelThatItIs) {
  for (const std::string name : {"parent", "dense"}) {
    const auto work = Folder(name);
    const auto quality = RunBaseline(name, *work, 1000);
    ASSERT_TRUE(quality.ok()) << quality.status();
    const auto artifact = ReadArtifact(work->File("artifact.safetensors"));
    ASSERT_TRUE(artifact.ok());
    InMemoryCheckpoint cut = *dense_;
    for (const auto& [tensor, delta] : artifact->deltas) {
      AddDelta(delta, absl::MakeSpan(cut.tensors[tensor]));
    }
    for (int l = 0; l < 2; ++l) {
      auto& down = cut.tensors[absl::StrCat("model.layers.", l, ".mlp.down_proj.weight")];
      for (size_t i = 0; i < down.size(); ++i) {
        const int neuron = static_cast<int>(i) % 45;
        const bool kept = name == "parent" || (neuron >= 5 && neuron < 35);
        down[i] *= kept ? Scale(neuron) : 0;
      }
    }
    const auto model = CausalModel::Load(cut, kWindow, at::kCPU, at::kFloat, at::kFloat);
    ASSERT_TRUE(model.ok());
    for (int d = 0; d < kExperts; ++d) {
      EXPECT_NEAR((*quality)[d].nll, HeldOutNll(*model, d, {}), 1e-5) << name;
      EXPECT_THAT((*quality)[d].expert_tokens, IsEmpty());
    }
    EXPECT_FALSE(work->Has("router-1.safetensors") || work->Has("router-2.safetensors"));
  }
}

TEST_F(TuneTest, ARandomSplitIsScoredAsARunsModel) {
  const auto work = Folder("random");
  const auto quality = RunBaseline("random", *work, 1000);
  ASSERT_TRUE(quality.ok()) << quality.status();
  ASSERT_TRUE(work->Remove("evaluate.json").ok());
  const auto as_run = Quality(*work);
  for (int d = 0; d < kExperts; ++d) {
    EXPECT_NEAR((*quality)[d].nll, as_run[d].routed_nll, 1e-6);
    EXPECT_EQ((*quality)[d].expert_tokens, as_run[d].expert_tokens);
  }
}

// Until routers choose, weights are tuned as the run's own; then both learn.
TEST_F(TuneTest, RoutersOfLayersAreTaughtThenLearnWithTheWeights) {
  const auto run = Folder("run"), layers = Folder("layers");
  options_.tokens *= 2;
  split_ = BaselineSplit("layer-router");
  ASSERT_TRUE(Run(*run, 1000).ok());
  const auto quality = RunBaseline("layer-router", *layers, 1000);
  ASSERT_TRUE(quality.ok()) << quality.status();
  const auto losses = ReadLosses(*run), layer_losses = ReadLosses(*layers);
  ASSERT_TRUE(losses.ok() && layer_losses.ok());
  ASSERT_EQ(losses->size(), 80u);
  for (int step = 0; step < 20; ++step) {
    EXPECT_EQ((*losses)[step].loss, (*layer_losses)[step].loss) << step;
  }
  EXPECT_NE((*losses)[21].loss, (*layer_losses)[21].loss);
  const auto routers = LoadLayerRouters(*layers, dense_->spec(), kExperts, at::kCPU);
  ASSERT_TRUE(routers.ok());
  for (const at::Tensor& router : *routers) EXPECT_GT(router.norm().item<float>(), 0.01);
  for (const BaselineQuality& q : *quality) {
    EXPECT_EQ(q.expert_tokens[0] + q.expert_tokens[1], 2 * 6 * kWindow);
  }
}

TEST(BaselineNeuronsTest, SetsAreAsWideAsTheRuns) {
  Artifact split{.experts = {"a", "b", "c"}};
  split.layers = {{.shared = {1, 4}, .own = {{0, 2, 3}, {5, 6, 7}, {0, 8, 9}}},
                  {.shared = {}, .own = {{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}, {0, 2, 4, 6, 8}}}};
  const std::vector<std::vector<int32_t>> one_set = {{1, 2, 4, 8, 9}, {0, 3, 5, 6, 7}};
  const auto sets = [&](const char* name, uint64_t seed) {
    return BaselineNeurons(name, split, one_set, 10, seed);
  };
  EXPECT_THAT(sets("parent", 1)[1].shared, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(sets("parent", 1)[1].own, Each(IsEmpty()));
  EXPECT_EQ(sets("dense", 1)[0].shared, one_set[0]);
  const std::vector<float> one_scale = {1, 2, 3, 4, 5};
  const std::vector<LayerScales> scales(2, {one_scale, {{}, {}, {}}});
  const auto layers = BaselineLayers(sets("dense", 1), scales, 1);
  EXPECT_THAT(layers[0].shared, ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(layers[0].shared_scale, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(layers[1].own, Each(ElementsAre(7)));
  EXPECT_THAT(layers[1].own_scale, Each(ElementsAre(5)));
  EXPECT_EQ(sets("layer-router", 1)[0].own, split.layers[0].own);
  const auto random = sets("random", 1);
  for (int l = 0; l < 2; ++l) {
    ASSERT_EQ(random[l].shared.size(), split.layers[l].shared.size());
    ASSERT_EQ(random[l].own.size(), 3u);
    for (const std::vector<int32_t>& own : random[l].own) {
      std::set<int32_t> all(own.begin(), own.end());
      all.insert(random[l].shared.begin(), random[l].shared.end());
      EXPECT_EQ(all.size(), 5u);
      EXPECT_TRUE(std::is_sorted(own.begin(), own.end()));
      EXPECT_GE(*all.begin(), 0);
      EXPECT_LT(*all.rbegin(), 10);
    }
  }
  EXPECT_EQ(random[1].own, sets("random", 1)[1].own);
  EXPECT_NE(random[1].own, sets("random", 2)[1].own);
}

TEST(BaselineNeuronsTest, ARecordOfSplitIsCheckedByName) {
  ModelSpec dense = TinySpec(0);
  const auto read = [&](const nlohmann::json& record) {
    return OneSetFromRecord(record, "split.json", dense);
  };
  const auto good = read({{"one_set", {{0, 3, 44}, {7}}}});
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_THAT(*good, ElementsAre(ElementsAre(0, 3, 44), ElementsAre(7)));
  EXPECT_THAT(read({{"inputs", 1}}).status().message(), HasSubstr("earlier version"));
  EXPECT_THAT(read({{"one_set", {{0, 3}}}}).status().message(), HasSubstr("not of 2 layers"));
  EXPECT_THAT(read({{"one_set", {{0, 45}, {7}}}}).status().message(), HasSubstr("split.json"));
  EXPECT_THAT(read({{"one_set", {nlohmann::json::array(), {7}}}}).status().message(),
              HasSubstr("empty layer"));
  EXPECT_FALSE(read({{"one_set", {"all", "all"}}}).ok());
}

TEST_F(TuneTest, AStateOfOtherOptionsIsRefusedByName) {
  const auto work = Folder("work");
  int steps = 3;
  ASSERT_TRUE(Tune(
                  {*dense_, split_, tuning_, tuning_, router_, {{"keep", 0.5}}}, options_, *work,
                  clock_, [&] { return steps-- == 0; }, [](double, double) {})
                  .ok());
  const auto other = Tune(
      {*dense_, split_, tuning_, tuning_, router_, {{"keep", 0.6}}}, options_, *work, clock_,
      [] { return false; }, [](double, double) {});
  EXPECT_THAT(other.status().message(), HasSubstr("tune.safetensors: was made with keep 0.5"));
}

TEST_F(TuneTest, ALossThatIsNotFiniteStopsWithTheLastGoodState) {
  const auto work = Folder("work");
  options_.save_every = absl::ZeroDuration();
  int steps = 2;
  const auto tune = [&](const std::function<bool()>& stop) {
    return Tune({*dense_, split_, tuning_, tuning_, router_, {{"keep", 0.5}}}, options_, *work,
                clock_, stop, [](double, double) {})
        .status();
  };
  ASSERT_TRUE(tune([&] { return steps-- == 0; }).ok());
  const std::string good = ReadFile(work->File("tune.safetensors"));
  dense_->tensors["model.layers.1.mlp.up_proj.weight"][3] = NAN;
  const absl::Status status = tune([] { return false; });
  EXPECT_THAT(status.message(), HasSubstr("step 3 has loss nan"));
  EXPECT_EQ(ReadFile(work->File("tune.safetensors")), good);
  EXPECT_FALSE(work->Has("tune.json"));
}

TEST_F(TuneTest, ABudgetMakesTheArtifactSmaller) {
  const auto whole = Folder("whole"), small = Folder("small");
  ASSERT_TRUE(Run(*whole, 1000).ok());
  options_.artifact_bytes = 6000;
  ASSERT_TRUE(Run(*small, 1000).ok());
  const auto artifact = ReadArtifact(small->File("artifact.safetensors"));
  ASSERT_TRUE(artifact.ok());
  int64_t bytes = 0;
  for (const auto& [name, delta] : artifact->deltas) bytes += delta.bytes();
  EXPECT_LE(bytes, 6000);
  EXPECT_LT(ReadFile(small->File("artifact.safetensors")).size(),
            ReadFile(whole->File("artifact.safetensors")).size());
  // Eight bits cost next to nothing, the budget some of what was gained.
  const auto all = Quality(*whole), cut = Quality(*small);
  for (int d = 0; d < kExperts; ++d) {
    EXPECT_LT(cut[d].own_nll, cut[d].cut_nll);
    EXPECT_LT(all[d].own_nll, cut[d].own_nll + 0.01);
  }
}

TEST_F(TuneTest, WhatIsStoredIsTunedAndDoesNotDependOnWhenTheRunWasStopped) {
  options_.artifact_bytes = 3500;
  options_.coded_share = 0;
  const auto rounded = Folder("rounded"), whole = Folder("whole"), stopped = Folder("stopped");
  ASSERT_TRUE(Run(*rounded, 1000).ok());
  options_.coded_share = 0.5;
  ASSERT_TRUE(Run(*whole, 1000).ok());
  ASSERT_TRUE(Run(*stopped, 7).ok());
  EXPECT_EQ(ReadFile(whole->File("artifact.safetensors")),
            ReadFile(stopped->File("artifact.safetensors")));
  const auto at_the_end = Quality(*rounded), tuned = Quality(*whole);
  for (int d = 0; d < kExperts; ++d) EXPECT_LT(tuned[d].own_nll, at_the_end[d].own_nll);
}

TEST_F(TuneTest, ThePapersMethodRunsEightRoundsOnTheFirstRoutersRoutes) {
  const auto whole = Folder("whole"), stopped = Folder("stopped");
  options_.method = "readme";
  options_.rate = 2e-3;
  ASSERT_TRUE(Run(*whole, 1000).ok());
  ASSERT_TRUE(Run(*stopped, 17).ok());
  EXPECT_EQ(ReadFile(whole->File("artifact.safetensors")),
            ReadFile(stopped->File("artifact.safetensors")));
  const auto losses = ReadLosses(*whole);
  ASSERT_TRUE(losses.ok());
  ASSERT_EQ(losses->size(), 40u);
  for (int step = 0; step < 40; ++step) {
    const LossRow& row = (*losses)[step];
    EXPECT_EQ(row.round, step / 5);
    EXPECT_DOUBLE_EQ(row.loss, row.nll);
    const double cosine = 0.5 * (1 + std::cos(M_PI * (step % 5) / 5));
    EXPECT_NEAR(row.rate, 2e-3 * std::pow(0.8, step / 5) * cosine, 1e-9) << step;
  }
  const auto artifact = ReadArtifact(whole->File("artifact.safetensors"));
  ASSERT_TRUE(artifact.ok());
  for (const auto& [name, tensor] : split_.router_tensors) {
    for (size_t i = 0; i < tensor.values.size(); ++i) {  // stored in 16 bits
      ASSERT_NEAR(artifact->router_tensors.at(name).values[i], tensor.values[i],
                  1e-3 * std::abs(tensor.values[i]) + 1e-6)
          << name;
    }
  }
  for (const DomainQuality& q : Quality(*whole)) EXPECT_LT(q.own_nll, q.cut_nll);
}

TEST_F(TuneTest, RefusesADeviceAndAMethodThatAreNotThere) {
  const auto work = Folder("work");
  options_.method = "magic";
  EXPECT_THAT(Run(*work, 1).message(), HasSubstr("method magic"));
}

}  // namespace
}  // namespace pregate

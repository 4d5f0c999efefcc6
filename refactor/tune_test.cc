#include "refactor/tune.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "common/base/status.h"
#include "common/model/formats/testing/model_files.h"
#include "expert_service/testing/random_model.h"
#include "refactor/evaluate.h"
#include "refactor/router_train.h"
#include "refactor/tune_state.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

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
          {*dense_, split_, tuning_, tuning_, router_, {{"keep", 0.5}}}, options_, work, clock_,
          [&] { return left-- == 0; }, [](double, double) {});
      if (!done.ok()) return done.status();
      if (*done) return absl::OkStatus();
    }
  }
  std::vector<DomainQuality> Quality(WorkFolder& work) {
    const auto artifact = ReadArtifact(work.File("artifact.safetensors"));
    PREGATE_CHECK(artifact.ok(), "", artifact.status().ToString());
    auto quality =
        Evaluate(*dense_, split_, *artifact, Counting(6, 99), "cpu", {{"keep", 0.5}}, work, {});
    PREGATE_CHECK(quality.ok(), "", quality.status().ToString());
    return **quality;
  }

  TempDir dir_;
  ManualClock clock_;
  std::unique_ptr<InMemoryCheckpoint> dense_;
  const Corpus tuning_ = Counting(40, 7);
  RouterTrainOptions router_;
  Artifact split_;
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
  }
  const auto losses = ReadLosses(*work);
  ASSERT_TRUE(losses.ok());
  ASSERT_EQ(losses->size(), 40u);
  EXPECT_LT(losses->back().nll, losses->front().nll);
  EXPECT_EQ(losses->front().round, 0);
  EXPECT_EQ(losses->back().round, 1);
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
  // Int8 costs next to nothing, the budget some of what was gained.
  const auto all = Quality(*whole), cut = Quality(*small);
  for (int d = 0; d < kExperts; ++d) {
    EXPECT_LT(cut[d].own_nll, cut[d].cut_nll);
    EXPECT_LT(all[d].own_nll, cut[d].own_nll + 0.01);
  }
}

TEST_F(TuneTest, RefusesADeviceAndAMethodThatAreNotThere) {
  const auto work = Folder("work");
  options_.method = "magic";
  EXPECT_THAT(Run(*work, 1).message(), HasSubstr("method magic"));
}

}  // namespace
}  // namespace pregate

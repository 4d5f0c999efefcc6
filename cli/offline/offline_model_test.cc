#include "cli/offline/offline_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>

#include "cli/model/authors_layout.h"
#include "common/base/status.h"
#include "common/device/cpu/cpu_device.h"
#include "common/model/formats/safetensors.h"
#include "expert_service/testing/random_model.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<OfflineModel> Load(const Checkpoint& checkpoint, Device* device, Clock* clock,
                                   const OfflineOptions& options) {
  auto model = OfflineModel::Load(checkpoint, device, clock, options, nullptr);
  PREGATE_CHECK(model.ok(), "", model.status().ToString());
  return *std::move(model);
}

class OfflineTest : public testing::Test {
 protected:
  OfflineTest()
      : device_(MakeCpuDevice({.threads = 2})), checkpoint_(MakeRandomModel(TinySpec(4), 5)) {
    options_.step_tokens = 24;
    options_.seq_slots = 5;
  }
  std::vector<ScoreRequest> RandomRequests(int count) {
    std::vector<ScoreRequest> requests(count);
    for (int r = 0; r < count; ++r) {
      requests[r].tokens = RandomTokens(2 + (r * 37) % 60, 131, r);
      requests[r].first_target = 1 + r % static_cast<int>(requests[r].tokens.size() - 1);
    }
    return requests;
  }

  std::unique_ptr<Device> device_;
  ManualClock clock_;
  std::unique_ptr<InMemoryCheckpoint> checkpoint_;
  OfflineOptions options_;
};

TEST_F(OfflineTest, ScoresAreThoseOfTheLogits) {
  auto model = Load(*checkpoint_, device_.get(), &clock_, options_);
  const auto requests = RandomRequests(12);
  int done = 0;
  const auto scores = model->Score(requests, [&](int d) { done = d; });
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_EQ(done, 12);
  for (size_t r = 0; r < requests.size(); ++r) {
    const auto logits = model->Logits(requests[r].tokens);
    ASSERT_TRUE(logits.ok()) << logits.status();
    const int first = requests[r].first_target, n = static_cast<int>(requests[r].tokens.size());
    ASSERT_EQ((*scores)[r].logprobs.size(), static_cast<size_t>(n - first));
    EXPECT_EQ((*scores)[r].routes, logits->routes);
    for (int i = first; i < n; ++i) {
      const float* row = logits->logits.data() + (i - 1) * 131;
      double sum = 0;
      for (int v = 0; v < 131; ++v) sum += std::exp(static_cast<double>(row[v]));
      EXPECT_NEAR((*scores)[r].logprobs[i - first], row[requests[r].tokens[i]] - std::log(sum),
                  1e-5);
    }
  }
}

TEST_F(OfflineTest, BatchingDoesNotChangeAScore) {
  auto model = Load(*checkpoint_, device_.get(), &clock_, options_);
  const auto requests = RandomRequests(12);
  const auto together = *model->Score(requests, nullptr);
  for (size_t r = 0; r < requests.size(); ++r) {
    const auto alone = *model->Score({requests[r]}, nullptr);
    EXPECT_EQ(alone[0].logprobs, together[r].logprobs);
    EXPECT_EQ(alone[0].greedy, together[r].greedy);
  }
}

TEST_F(OfflineTest, AFixedExpertTakesTheRoutersPlace) {
  options_.expert = 2;
  auto model = Load(*checkpoint_, device_.get(), &clock_, options_);
  const auto logits = *model->Logits({5, 6, 7});
  EXPECT_EQ(logits.routes, (std::vector<ExpertId>{2, 2, 2}));
  EXPECT_TRUE(logits.router_logits.empty());
  options_.expert = 4;
  EXPECT_THAT(OfflineModel::Load(*checkpoint_, device_.get(), &clock_, options_, nullptr)
                  .status()
                  .message(),
              HasSubstr("expert is 4, the model has 4"));
}

TEST_F(OfflineTest, ABadRequestNamesItsTokenAndLeavesTheModelUsable) {
  auto model = Load(*checkpoint_, device_.get(), &clock_, options_);
  EXPECT_THAT(model->Logits({1, 131}).status().message(), HasSubstr("tokens[1] is 131"));
  EXPECT_THAT(model->Logits(std::vector<TokenId>(129, 1)).status().message(),
              HasSubstr("129 tokens"));
  EXPECT_THAT(model->Score({{{1, 2}, 2}}, nullptr).status().message(),
              HasSubstr("first_target is 2"));
  EXPECT_THAT(model->Score({{{1, 2}, 0}}, nullptr).status().message(),
              HasSubstr("first_target is 0"));
  EXPECT_EQ(model->Logits({1, 2})->logits.size(), 2u * 131);
}

TEST_F(OfflineTest, ADenseModelHasNoRoutes) {
  auto dense = MakeRandomModel(TinySpec(0), 5);
  auto model = Load(*dense, device_.get(), &clock_, options_);
  const auto logits = *model->Logits({1, 2, 3});
  EXPECT_TRUE(logits.routes.empty());
  EXPECT_EQ(logits.logits.size(), 3u * 131);
}

// --- the authors' own outputs ---

std::filesystem::path SharedDir() {
  if (const char* dir = std::getenv("PREGATE_SHARED_DIR")) return dir;
  return std::filesystem::path("..") / "shared";
}

double RelativeError(const std::vector<float>& a, const std::vector<float>& b) {
  PREGATE_CHECK(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(difference / norm);
}

class GoldenTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = SharedDir() / "golden" / "gqa_split";
    if (!std::filesystem::exists(dir_)) GTEST_SKIP() << dir_ << " is absent";
    golden_ = *SafetensorsFile::Open((dir_ / "golden.safetensors").string());
  }
  std::unique_ptr<OfflineModel> Open(const char* folder) {
    auto checkpoint = OpenCheckpoint((dir_ / folder).string());
    PREGATE_CHECK(checkpoint.ok(), "", checkpoint.status().ToString());
    checkpoint_ = *std::move(checkpoint);
    return Load(*checkpoint_, device_.get(), &clock_, {});
  }

  std::filesystem::path dir_;
  std::shared_ptr<const SafetensorsFile> golden_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Device> device_ = MakeCpuDevice({.threads = 1});
  ManualClock clock_;
};

TEST_F(GoldenTest, DenseLogits) {
  auto model = Open("dense");
  for (int k = 0; k < 4; ++k) {
    const std::string at = absl::StrCat(k, ".");
    const auto out = model->Logits(*golden_->ReadInts(at + "input_ids"));
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_LE(RelativeError(out->logits, *golden_->ReadFloats(at + "dense_logits")), 1e-5)
        << "case " << k;
  }
}

TEST_F(GoldenTest, MoeLogitsRouterLogitsAndExpertIds) {
  auto model = Open("moe_authors_layout");
  for (int k = 0; k < 4; ++k) {
    const std::string at = absl::StrCat(k, ".");
    const auto out = model->Logits(*golden_->ReadInts(at + "input_ids"));
    ASSERT_TRUE(out.ok()) << out.status();
    EXPECT_EQ(out->routes, *golden_->ReadInts(at + "expert_ids")) << "case " << k;
    EXPECT_LE(RelativeError(out->router_logits, *golden_->ReadFloats(at + "router_logits")), 1e-5)
        << "case " << k;
    EXPECT_LE(RelativeError(out->logits, *golden_->ReadFloats(at + "moe_logits")), 1e-5)
        << "case " << k;
  }
}

}  // namespace
}  // namespace pregate

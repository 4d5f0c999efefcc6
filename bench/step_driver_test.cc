#include "bench/step_driver.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "expert_service/testing/random_model.h"
#include "expert_service/testing/test_engine.h"

namespace pregate {
namespace {

TEST(StepDriverTest, ForcedRoutesNameAsManyExpertsAsAsked) {
  const auto checkpoint = MakeRandomModel(TinySpec(5), 1);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  StepDriver driver(engine.executors[0].get(), engine.spec, 1);
  for (const int batch : {1, 3, 6}) {
    driver.OpenBatch(batch, 7, 8);
    for (int experts = 1; experts <= std::min(batch, 5); ++experts) {
      EXPECT_EQ(driver.DecodeStepOf(batch, experts).unique_experts, experts) << "batch " << batch;
    }
    EXPECT_EQ(driver.length(0), 7 + std::min(batch, 5));
    driver.Close();
  }
}

// Where nothing was sampled a late row is refused, so these are late.
TEST(StepDriverTest, LateRowsGoOnFromWhatWasSampled) {
  const auto checkpoint = MakeRandomModel(TinySpec(5), 1);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  StepDriver driver(engine.executors[0].get(), engine.spec, 1);
  driver.OpenBatch(3, 7, 8);
  for (int step = 0; step < 3; ++step) {
    const StepRun run = driver.DecodeStep(3, /*late=*/true);
    EXPECT_EQ(run.num_tokens, 3);
    EXPECT_GE(run.unique_experts, 1);
  }
  driver.DecodeStep(2, /*late=*/false);
  driver.DecodeStep(3, /*late=*/true);
  EXPECT_EQ(driver.length(0), 7 + 5);
  EXPECT_EQ(driver.length(2), 7 + 4);

  driver.AddRow(0, 1, /*emit=*/false);
  driver.Run();
  driver.AddLateRow(0);
  EXPECT_DEATH(driver.Run(), "needs the sample there");
}

TEST(StepDriverTest, ARestartedSequenceBeginsAnewBesideOthers) {
  const auto checkpoint = MakeRandomModel(TinySpec(5), 1);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  StepDriver driver(engine.executors[0].get(), engine.spec, 1);
  driver.OpenBatch(2, 7, 8);
  driver.Open(2, 20);
  for (int round = 0; round < 3; ++round) {
    if (round > 0) driver.Restart(2);
    driver.AddDecodeRows(2, /*late=*/true);
    driver.AddRow(2, 20, /*emit=*/false);
    EXPECT_EQ(driver.Run().num_tokens, 22);
    EXPECT_EQ(driver.length(2), 20);
  }
  EXPECT_EQ(driver.length(0), 7 + 3);
}

TEST(StepDriverTest, APromptMayNameAsManyExpertsAsAsked) {
  const auto checkpoint = MakeRandomModel(TinySpec(5), 1);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  StepDriver driver(engine.executors[0].get(), engine.spec, 1);
  for (const int experts : {1, 4}) {
    driver.Open(0, 12);
    driver.AddRowOf(0, 12, experts, /*emit=*/false);
    EXPECT_EQ(driver.Run().unique_experts, experts);
    driver.Close();
  }
}

TEST(StepDriverTest, ADenseModelReadsItsWholeFfnForEveryToken) {
  const ModelSpec dense = TinySpec(0);
  int64_t elements = int64_t{dense.vocab_size} * dense.hidden;
  for (int l = 0; l < dense.num_layers; ++l) {
    const int64_t heads = 2 * dense.num_heads + 2 * dense.num_kv_heads;
    elements += dense.hidden * (heads * dense.head_dim + int64_t{3} * dense.intermediate);
  }
  EXPECT_EQ(TokenBytes(dense, DType::kBF16), 2 * elements);

  const auto checkpoint = MakeRandomModel(dense, 1);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  StepDriver driver(engine.executors[0].get(), engine.spec, 1);
  driver.OpenBatch(2, 7, 4);
  EXPECT_EQ(driver.DecodeStep(2).unique_experts, 0);
}

}  // namespace
}  // namespace pregate

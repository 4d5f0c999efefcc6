#include "expert_service/engine/step_executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "expert_service/testing/random_model.h"
#include "expert_service/testing/test_engine.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <typename T>
std::vector<T> Slice(const std::vector<T>& values, int32_t first, int32_t count) {
  if (values.empty()) return {};
  return {values.begin() + first, values.begin() + first + count};
}

class StepTest : public testing::Test {
 protected:
  StepTest()
      : checkpoint_(MakeRandomModel(TinySpec(4), 5)), engine_(*checkpoint_, DType::kF32, 1) {}

  std::vector<TokenId> Tokens(int count, uint32_t seed) {
    return RandomTokens(count, engine_.spec.vocab_size, seed);
  }
  std::vector<ExpertId> Routes(int count, uint32_t seed) { return RandomTokens(count, 4, seed); }

  std::unique_ptr<InMemoryCheckpoint> checkpoint_;
  TestEngine engine_;
  PlanMaker maker_{TestEngine::kSlots, TestEngine::kBlocks, 3};
};

TEST_F(StepTest, ABadRowFailsItsSequenceAlone) {
  const int32_t good = maker_.Open(1), bad = maker_.Open(2);
  maker_.AddRow(good, 0, Tokens(5, 1), Routes(5, 1), Emit::kSample);
  maker_.AddRow(bad, 0, Tokens(3, 2), {0, 1, 4}, Emit::kSample);
  StepResult result = engine_.Run(maker_);
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.samples.size(), 1u);
  EXPECT_EQ(result.samples[0].seq_id, 1u);
  ASSERT_EQ(result.row_errors.size(), 1u);
  EXPECT_EQ(result.row_errors[0].seq_id, 2u);
  EXPECT_THAT(result.row_errors[0].message, HasSubstr("routes[2] is 4"));

  maker_.AddLateRow(good, 5, Emit::kSample);
  maker_.AddRow(bad, 0, Tokens(3, 2), Routes(3, 2), Emit::kSample);
  result = engine_.Run(maker_);
  EXPECT_EQ(result.samples.size(), 1u);
  ASSERT_EQ(result.row_errors.size(), 1u);
  EXPECT_THAT(result.row_errors[0].message, HasSubstr("has failed before"));
}

TEST_F(StepTest, TellsWhatItDidWhen) {
  TestEngine engine(*checkpoint_, {.expert_slots = 1});
  const int32_t slot = maker_.Open(1);
  maker_.AddRow(slot, 0, Tokens(5, 1), {2, 2, 2, 2, 2}, Emit::kSample);
  const StepResult result = engine.Run(maker_);
  ASSERT_TRUE(result.status.ok()) << result.status;
  std::vector<Activity> phases;
  int64_t phase_end = 0, load_end = std::numeric_limits<int64_t>::min();
  int loads = 0;
  for (const ActivitySpan& span : result.activities) {
    EXPECT_GE(span.duration_us, 0);
    if (span.activity == Activity::kLoad) {
      ++loads;
      EXPECT_GE(span.begin_us, load_end) << "one copy after the other";
      load_end = span.begin_us + span.duration_us;
    } else if (span.activity != Activity::kStall) {
      phases.push_back(span.activity);
      EXPECT_GE(span.begin_us, phase_end);
      phase_end = span.begin_us + span.duration_us;
    }
  }
  EXPECT_THAT(phases, ElementsAre(Activity::kRouter, Activity::kLayers, Activity::kEmit,
                                  Activity::kRouter));
  EXPECT_EQ(loads, engine.spec.num_layers) << "the one expert's units";
}

TEST_F(StepTest, MeasuringLeavesNothingBehind) {
  TestEngine engine(*checkpoint_, {.expert_slots = 1}), fresh(*checkpoint_, {.expert_slots = 1});
  StepExecutor& executor = *engine.executors[0];
  const auto cost = executor.MeasureDecodeCost();
  ASSERT_TRUE(cost.ok()) << cost.status();
  EXPECT_THAT(executor.ResidentUnits(), IsEmpty());
  EXPECT_EQ(executor.residency().loads, 0);
  EXPECT_THAT(executor.Tick(), IsEmpty());
  const int32_t slot = maker_.Open(1);
  maker_.AddRow(slot, 0, Tokens(5, 1), Routes(5, 1), Emit::kSample);
  const StepPlan plan = maker_.Take();
  const StepResult result = engine.Run(plan), expected = fresh.Run(plan);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_THAT(result.row_errors, IsEmpty());
  EXPECT_EQ(result.samples[0].token, expected.samples[0].token);
  ASSERT_FALSE(result.unit_events.empty());
  EXPECT_EQ(result.unit_events[0].number, 1u) << "the scheduler counts from its first";
}

TEST_F(StepTest, AStepErrorChangesNothing) {
  const int32_t slot = maker_.Open(1);
  maker_.AddRow(slot, 0, Tokens(5, 1), Routes(5, 1), Emit::kSample);
  ASSERT_TRUE(engine_.Run(maker_).status.ok());
  StepPlan wrong = maker_.Take();
  wrong.drop = {slot, slot};
  EXPECT_THAT(engine_.executors[0]->Run(wrong, nullptr).status.message(),
              HasSubstr("drop names slot"));
  maker_.AddLateRow(slot, 5, Emit::kSample);
  const StepResult result = engine_.Run(maker_);
  EXPECT_EQ(result.samples.size(), 1u) << "the slot is still open";
}

TEST_F(StepTest, LogitsThatAreNotFiniteFailTheirSequenceByPosition) {
  const std::vector<TokenId> tokens = {3, 7, 9};
  auto& embedding = checkpoint_->tensors["model.embed_tokens.weight"];
  embedding[7 * engine_.spec.hidden] = std::numeric_limits<float>::quiet_NaN();
  auto& head = checkpoint_->tensors["lm_head.weight"];  // untied, so that other rows stay finite
  ModelSpec untied = engine_.spec;
  untied.tie_embeddings = false;
  auto broken = MakeRandomModel(untied, 5);
  broken->tensors["model.embed_tokens.weight"] = embedding;
  head = broken->tensors["lm_head.weight"];
  TestEngine engine(*broken, DType::kF32, 1);
  for (Emit emit : {Emit::kSample, Emit::kScore, Emit::kLogits}) {
    const int32_t good = maker_.Open(1), bad = maker_.Open(2);
    maker_.AddRow(good, 0, {1, 2, 3}, {0, 1, 2}, emit).targets =
        emit == Emit::kScore ? tokens : std::vector<TokenId>();
    maker_.AddRow(bad, 0, tokens, {0, 1, 2}, emit).targets =
        emit == Emit::kScore ? tokens : std::vector<TokenId>();
    const StepResult result = engine.Run(maker_);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.samples.size() + result.scores.size() + result.logits.size(), 1u);
    ASSERT_EQ(result.row_errors.size(), 1u);
    EXPECT_EQ(result.row_errors[0].seq_id, 2u);
    EXPECT_THAT(result.row_errors[0].message,
                HasSubstr(emit == Emit::kSample ? "after position 2 are not finite"
                                                : "after position 1 are not finite"));
    maker_.Drop(good);
    maker_.Drop(bad);
  }
}

TEST_F(StepTest, ScoresAreLogSoftmaxOfTheLogits) {
  const std::vector<TokenId> tokens = Tokens(7, 1), targets = Tokens(7, 2);
  const std::vector<ExpertId> routes = Routes(7, 3);
  const int32_t a = maker_.Open(1), b = maker_.Open(2);
  maker_.AddRow(a, 0, tokens, routes, Emit::kLogits);
  Row& scored = maker_.AddRow(b, 0, tokens, routes, Emit::kScore);
  scored.targets = targets;
  scored.logprobs_k = 4;
  const StepResult result = engine_.Run(maker_);
  ASSERT_EQ(result.scores.size(), 1u);
  ASSERT_EQ(result.scores[0].top.size(), 7u);
  const int vocab = engine_.spec.vocab_size;
  for (int i = 0; i < 7; ++i) {
    const float* logits = result.logits[0].logits.data() + i * vocab;
    double sum = 0;
    for (int v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[v]));
    EXPECT_NEAR(result.scores[0].logprobs[i], logits[targets[i]] - std::log(sum), 1e-5);
    const std::vector<TokenLogprob>& top = result.scores[0].top[i];
    ASSERT_EQ(top.size(), 5u);
    EXPECT_EQ(top[0].token, targets[i]);
    EXPECT_EQ(top[0].logprob, result.scores[0].logprobs[i]);
    EXPECT_EQ(top[1].token, std::max_element(logits, logits + vocab) - logits);
    for (int k = 1; k < 5; ++k) {
      EXPECT_NEAR(top[k].logprob, logits[top[k].token] - std::log(sum), 1e-5);
      if (k > 1) {
        EXPECT_LE(top[k].logprob, top[k - 1].logprob);
      }
    }
    EXPECT_EQ(result.scores[0].greedy[i],
              std::max_element(logits, logits + vocab) - logits == targets[i]);
  }
}

TEST_F(StepTest, LogprobsAreOfRawLogits) {
  SamplingParams sampling;
  sampling.temperature = 2;
  sampling.repetition_penalty = 1.5f;
  const std::vector<TokenId> tokens = Tokens(7, 1);
  const std::vector<ExpertId> routes = Routes(7, 3);
  const int32_t a = maker_.Open(1, sampling, 9), b = maker_.Open(2);
  maker_.AddRow(a, 0, tokens, routes, Emit::kSample).logprobs_k = 3;
  maker_.AddRow(b, 0, tokens, routes, Emit::kSample).logprobs_k = 1;
  const StepResult result = engine_.Run(maker_);
  ASSERT_EQ(result.samples.size(), 2u);
  const auto& sampled = result.samples[0].logprobs;
  const auto& greedy = result.samples[1].logprobs;
  ASSERT_EQ(sampled.size(), 4u);
  ASSERT_EQ(greedy.size(), 2u);
  EXPECT_EQ(sampled[0].token, result.samples[0].token);
  EXPECT_EQ(greedy[0].token, greedy[1].token);
  EXPECT_EQ(sampled[1].token, greedy[1].token);
  EXPECT_EQ(sampled[1].logprob, greedy[1].logprob);
}

TEST_F(StepTest, APrefixHitGoesOnFromSharedBlocks) {
  SamplingParams sampling;
  sampling.repetition_penalty = 1.4f;
  const std::vector<TokenId> tokens = Tokens(20, 1);
  const std::vector<ExpertId> routes = Routes(20, 2);
  const int32_t whole = maker_.Open(1, sampling);
  maker_.AddRow(whole, 0, tokens, routes, Emit::kSample);
  const StepResult first = engine_.Run(maker_);

  // The second sequence shares the first block and computes the rest.
  const int32_t hit = maker_.Open(2, sampling, 0, Slice(tokens, 0, 16));
  maker_.AddRow(hit, 16, Slice(tokens, 16, 4), Slice(routes, 16, 4), Emit::kSample);
  StepPlan plan = maker_.Take();
  ASSERT_EQ(plan.blocks.size(), 1u);
  ASSERT_EQ(plan.blocks[0].first_index, 0);
  plan.blocks[0].ids[0] = maker_.Drop(whole)[0];
  const StepResult second = engine_.executors[0]->Run(plan, nullptr);
  ASSERT_EQ(second.samples.size(), 1u) << second.row_errors[0].message;
  EXPECT_EQ(second.samples[0].token, first.samples[0].token);
  EXPECT_EQ(second.samples[0].route, first.samples[0].route);
}

TEST_F(StepTest, StopsBetweenLayersWhenAsked) {
  const int32_t slot = maker_.Open(1);
  maker_.AddRow(slot, 0, Tokens(5, 1), Routes(5, 1), Emit::kSample);
  int layers = 0;
  const StepResult result = engine_.executors[0]->Run(maker_.Take(), [&] { return ++layers < 2; });
  EXPECT_EQ(result.status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(layers, 2);
  EXPECT_TRUE(result.samples.empty());
}

TEST_F(StepTest, CountsTokensAndExperts) {
  const int32_t a = maker_.Open(1), b = maker_.Open(2);
  maker_.AddRow(a, 0, Tokens(4, 1), {1, 1, 3, 1}, Emit::kSample);
  maker_.AddRow(b, 0, Tokens(2, 1), {3, 3}, Emit::kNone);
  const StepResult result = engine_.Run(maker_);
  EXPECT_EQ(engine_.times.num_tokens, 6);
  EXPECT_EQ(result.unique_experts, 2);
  EXPECT_THAT(result.experts, testing::ElementsAre(1, 3));
}

TEST_F(StepTest, APlanWithoutRowsIsAnsweredOk) {
  const StepResult result = engine_.Run(maker_);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.step_id, 1u);
}

TEST(ReplicaTest, WithoutARouterLateRowsOfAnMoeAreRefused) {
  ModelSpec spec = TinySpec(3);
  spec.router.reset();
  auto checkpoint = MakeRandomModel(spec, 5);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, 3);
  const int32_t slot = maker.Open(1);
  maker.AddRow(slot, 0, {5}, {2}, Emit::kSample);
  StepResult result = engine.Run(maker);
  ASSERT_EQ(result.samples.size(), 1u);
  EXPECT_EQ(result.samples[0].route, kNoRoute);
  maker.AddLateRow(slot, 1, Emit::kSample);
  result = engine.Run(maker);
  ASSERT_EQ(result.row_errors.size(), 1u);
  EXPECT_THAT(result.row_errors[0].message, HasSubstr("has no router"));
}

TEST(ShapeTest, LayersMayLackTheSharedOrTheOwnPart) {
  ModelSpec spec = TinySpec(3);
  spec.shared_width = {0, 21};
  spec.own_width = {17, 0};
  auto checkpoint = MakeRandomModel(spec, 5);
  TestEngine engine(*checkpoint, DType::kF32, 1);
  PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, 3);
  maker.AddRow(maker.Open(1), 0, {5, 6}, {2, 1}, Emit::kSample);
  const StepResult result = engine.Run(maker);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.samples.size(), 1u);
}

}  // namespace
}  // namespace pregate

// What travels between ranks. That results do not depend on it is invariance_test's.
#include "expert_service/engine/exchange.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "expert_service/testing/random_model.h"
#include "expert_service/testing/test_engine.h"

namespace pregate {
namespace {

using testing::HasSubstr;

constexpr int kExperts = 4;

class ExchangeTest : public testing::TestWithParam<DType> {
 protected:
  ExchangeTest() { RecordProperty("seed", std::to_string(seed_)); }
  int64_t BytesSent() const {
    int64_t bytes = 0;
    for (const auto& collective : engine_.collectives) bytes += collective->bytes_sent();
    return bytes;
  }

  const uint32_t seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  std::unique_ptr<InMemoryCheckpoint> checkpoint_ = MakeRandomModel(TinySpec(kExperts), 11);
  TestEngine engine_{*checkpoint_, {.dtype = GetParam(), .world_size = 2}};
  PlanMaker maker_{TestEngine::kSlots, TestEngine::kBlocks, 3};
};

TEST_P(ExchangeTest, TheBytesOnTheWireAreThoseOfThePlan) {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  for (int round = 0; round < 5; ++round) {
    int64_t num_tokens = 0, num_remote = 0;
    for (int i = 0; i < 3; ++i) {
      const int32_t count = 1 + random_() % 12, id = random_() % 100;
      const int32_t slot = maker_.Open(id);
      const std::vector<ExpertId> routes = RandomTokens(count, kExperts, random_());
      maker_.AddRow(slot, 0, RandomTokens(count, 131, random_()), routes, Emit::kNone);
      num_tokens += count;
      for (ExpertId route : routes) num_remote += route % 2 != id % 2;
    }
    const int64_t before = BytesSent();
    const StepResult result = engine_.Run(maker_);
    ASSERT_TRUE(result.status.ok()) << result.status;
    const int64_t routes = 2 * num_tokens * static_cast<int64_t>(sizeof(int32_t));
    const int64_t rows = 2 * num_remote * engine_.spec.num_layers * engine_.spec.hidden *
                         static_cast<int64_t>(DTypeBytes(GetParam()));
    EXPECT_EQ(BytesSent() - before, routes + rows) << "there and back, in every layer";
    EXPECT_EQ(engine_.times.exchange_bytes_sent, routes + rows) << "the steps say so too";
    EXPECT_EQ(engine_.times.exchange_bytes_received, routes + rows) << "and what is sent arrives";
    engine_.Reset();
    maker_ = PlanMaker(TestEngine::kSlots, TestEngine::kBlocks, 3 + round);
  }
}

// The home knows that a row is bad; the other rank has to leave it out as well.
TEST_P(ExchangeTest, ABadRowIsLeftOutByEveryRank) {
  const int32_t good = maker_.Open(0), bad = maker_.Open(1);
  maker_.AddRow(good, 0, {1, 2, 3}, {0, 1, 2}, Emit::kLogits);
  maker_.AddRow(bad, 0, {4, 5}, {1, 2}, Emit::kLogits).position = 7;
  const StepResult together = engine_.Run(maker_);
  ASSERT_TRUE(together.status.ok()) << together.status;
  ASSERT_EQ(together.row_errors.size(), 1u);
  EXPECT_THAT(together.row_errors[0].message, HasSubstr("position is 7"));

  TestEngine alone(*checkpoint_, GetParam(), 1);
  PlanMaker maker(TestEngine::kSlots, TestEngine::kBlocks, 3);
  maker.AddRow(maker.Open(0), 0, {1, 2, 3}, {0, 1, 2}, Emit::kLogits);
  const StepResult expected = alone.Run(maker);
  ASSERT_EQ(together.logits.size(), 1u);
  EXPECT_EQ(together.logits[0].logits, expected.logits[0].logits);
}

TEST_P(ExchangeTest, EachRankHoldsItsOwnUnitsOnly) {
  for (int32_t rank = 0; rank < 2; ++rank) {
    for (const UnitId& unit : engine_.executors[rank]->ResidentUnits()) {
      EXPECT_EQ(unit.expert % 2, rank);
    }
    EXPECT_EQ(engine_.executors[rank]->ResidentUnits().size(), 2u * kExperts / 2);
  }
}

TEST_P(ExchangeTest, AStepFailsWhenAPeerLeaves) {
  const int32_t slot = maker_.Open(0);
  maker_.AddRow(slot, 0, {1, 2, 3}, {0, 1, 2}, Emit::kLogits);
  const StepPlan plan = maker_.Take();
  engine_.collectives[1]->Abort();
  const StepResult result = engine_.executors[0]->Run(plan, nullptr);
  EXPECT_FALSE(result.status.ok());
}

INSTANTIATE_TEST_SUITE_P(DTypes, ExchangeTest, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

}  // namespace
}  // namespace pregate

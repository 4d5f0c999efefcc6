// Where experts lie in slots, layers run at once as far as their units are there: which ones do, that
// it changes no bit, and that what is counted is the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "expert_service/testing/at_once_device.h"
#include "expert_service/testing/random_model.h"
#include "expert_service/testing/test_engine.h"

namespace pregate {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Call = AtOnceDevice::Call;

constexpr int kLayers = 6, kExperts = 3;

ModelSpec Spec() {
  ModelSpec spec = TinySpec(kExperts);
  spec.num_layers = kLayers;
  spec.shared_width.assign(kLayers, 13);
  spec.own_width.assign(kLayers, 17);
  return spec;
}

std::vector<UnitId> UnitsOf(ExpertId expert) {
  std::vector<UnitId> units;
  for (int32_t layer = 0; layer < kLayers; ++layer) units.push_back({layer, expert});
  return units;
}

// Steps on an engine whose copies take their time, and on one that holds everything.
class LayersAtOnceTest : public testing::TestWithParam<int32_t> {
 protected:
  LayersAtOnceTest()
      : seed_(std::random_device{}()),
        random_(seed_),
        checkpoint_(MakeRandomModel(Spec(), 5)),
        engine_(*checkpoint_, {.expert_slots = GetParam(), .at_once = true}),
        whole_(*checkpoint_, {}),
        device_(dynamic_cast<AtOnceDevice&>(*engine_.devices[0])) {}

  int32_t Random(int32_t bound) { return static_cast<int32_t>(random_() % bound); }
  // A sequence of these routes, which has the same logits on both.
  StepResult Run(std::vector<ExpertId> routes, Wanted wanted = {}) {
    const int32_t slot = maker_.Open(++last_seq_);
    const int count = static_cast<int>(routes.size());
    maker_.AddRow(slot, 0, RandomTokens(count, engine_.spec.vocab_size, random_()),
                  std::move(routes), Emit::kLogits);
    StepPlan plan = maker_.Take();
    maker_.Drop(slot);
    if (!wanted.units.empty()) plan.wanted.push_back(std::move(wanted));
    const StepResult result = engine_.Run(plan), want = whole_.Run(plan);
    EXPECT_TRUE(result.status.ok()) << result.status;
    if (result.logits.size() != 1 || want.logits.size() != 1) {
      ADD_FAILURE() << result.logits.size() << " rows of logits of " << want.logits.size();
      return result;
    }
    const std::vector<float>&x = result.logits[0].logits, &y = want.logits[0].logits;
    EXPECT_EQ(x.size(), y.size());
    EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)), 0);
    return result;
  }
  // Each unit that the step needs, once.
  int64_t Counted() const {
    const StepTimes& times = engine_.executors[0]->times();
    return times.unit_hits + times.unit_misses + times.unit_late_prefetches;
  }

  const uint32_t seed_;
  std::mt19937 random_;
  std::unique_ptr<InMemoryCheckpoint> checkpoint_;
  TestEngine engine_, whole_;
  AtOnceDevice& device_;
  PlanMaker maker_{TestEngine::kSlots, TestEngine::kBlocks, 3};
  SeqId last_seq_ = 0;
};

class TwoSlotsAtOnceTest : public LayersAtOnceTest {};

TEST_P(LayersAtOnceTest, AStepWhoseUnitsAreThereIsOneCall) {
  device_.SetLooks(0);
  StepResult result = Run({1});
  EXPECT_THAT(device_.TakeCalls(), IsEmpty()) << "every layer waits";
  EXPECT_EQ(result.unit_misses, kLayers);
  result = Run({1, 1, 1});
  EXPECT_THAT(device_.TakeCalls(), ElementsAre(Call{kLayers, 0}));
  EXPECT_EQ(result.unit_hits, kLayers);
  EXPECT_EQ(result.unit_misses, 0);
  EXPECT_THAT(result.unit_events, IsEmpty());
}

// The second expert's units are there, and so are the first's but for one layer, whose slot has
// another's, which the scheduler asked for.
TEST_P(TwoSlotsAtOnceTest, AUnitThatIsMissingSplitsTheStep) {
  device_.SetLooks(0);
  Run({0});
  Run({1});
  device_.TakeCalls();
  Wanted wanted = {.units = {{2, 2}}, .load_first = 1};
  for (const ExpertId expert : {0, 1}) {
    for (const UnitId& unit : UnitsOf(expert)) {
      if (unit != UnitId{2, 0}) wanted.units.push_back(unit);
    }
  }
  Run({1}, wanted);
  EXPECT_THAT(device_.TakeCalls(), ElementsAre(Call{kLayers, 1})) << "beside the load ahead";
  const StepResult result = Run({0});
  EXPECT_THAT(device_.TakeCalls(), ElementsAre(Call{2, 2}, Call{kLayers - 3, 0}));
  EXPECT_EQ(result.unit_hits, kLayers - 1);
  EXPECT_EQ(result.unit_misses, 1);
}

TEST_P(LayersAtOnceTest, ADeviceThatSaysNoRunsThemInTurn) {
  device_.Refuse();
  device_.SetLooks(0);
  EXPECT_EQ(Run({2}).unit_misses, kLayers);
  const StepResult result = Run({2, 2});
  EXPECT_THAT(device_.TakeCalls(), IsEmpty());
  EXPECT_EQ(result.unit_hits, kLayers);
  EXPECT_THAT(result.unit_events, IsEmpty());
}

TEST_P(LayersAtOnceTest, RandomStepsHaveTheSameBitsAndCountEachUnitOnce) {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  int split = 0, whole = 0;
  for (int step = 0; step < 300; ++step) {
    std::vector<ExpertId> routes(1 + Random(5), Random(kExperts));
    if (Random(3) == 0) routes.back() = Random(kExperts);
    Wanted wanted;
    for (int i = Random(3) == 0 ? Random(8) : 0; i > 0; --i) {
      wanted.units.push_back({Random(kLayers), Random(kExperts)});
    }
    wanted.load_first = Random(static_cast<int32_t>(wanted.units.size()) + 1);
    const StepResult result = Run(std::move(routes), std::move(wanted));
    ASSERT_EQ(Counted(), int64_t{kLayers} * result.unique_experts) << "step " << step;
    for (const Call& call : device_.TakeCalls()) ++(call.num_layers == kLayers ? whole : split);
  }
  EXPECT_GT(whole, 0);
  if (GetParam() < kExperts) {
    EXPECT_GT(split, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Slots, LayersAtOnceTest, testing::Values(1, 2, 3));
INSTANTIATE_TEST_SUITE_P(Slots, TwoSlotsAtOnceTest, testing::Values(2));

}  // namespace
}  // namespace pregate

#include "scheduler_service/edge/cluster_codec.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler_service/edge/testing/byte_model.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;

ServedModel Model() {
  ServedModel model = testing::MakeByteModel();
  model.name = "bytes";
  return model;
}

TEST(ClusterCodecTest, TellsAllOfTheBoard) {
  ClusterBoard board(2);
  board.SetGauges({.requests_running = 3,
                   .requests_waiting = 4,
                   .router_up = true,
                   .kv_blocks = 50,
                   .kv_blocks_used = 20,
                   .kv_blocks_cached = 10,
                   .routed_ahead = 6,
                   .reuse = {.ratio = 0.5, .optimal_ratio = 0.75}});
  using enum UnitState;
  board.SetWorkers(true, 7,
                   {{},
                    {.up = true,
                     .member = true,
                     .device = "cpu",
                     .unit_slots = 2,
                     .units = {kResident, kAbsent, kLoading, kFailed}}});
  board.AddAnswer(1, {.hits = 5, .misses = 1, .stall_us = 100});
  board.AddAnswer(1, {.hits = 2, .misses = 3, .stall_us = 50});
  board.AddStep({.begin = absl::FromUnixMicros(1'000'001),
                 .round_trip = absl::Microseconds(900),
                 .step_us = 800,
                 .decode_rows = 3,
                 .prefill_rows = 1,
                 .prefill_tokens = 17,
                 .draft_tokens = 2,
                 .accepted_drafts = 1,
                 .experts = {0, 2},
                 .unique_experts = 3,
                 .units = {.hits = 7, .misses = 4, .stall_us = 100}});
  const v1::GetClusterStatusResponse out = EncodeClusterStatus(Model(), board.Read(), 0);

  EXPECT_EQ(out.model(), "bytes");
  EXPECT_TRUE(out.serving());
  EXPECT_EQ(out.epoch(), 7);
  EXPECT_EQ(out.router_up(), Model().has_routes());
  EXPECT_EQ(out.requests_running(), 3);
  EXPECT_EQ(out.requests_waiting(), 4);
  EXPECT_EQ(out.kv_blocks(), 50);
  EXPECT_EQ(out.kv_blocks_used(), 20);
  EXPECT_EQ(out.kv_blocks_cached(), 10);
  EXPECT_EQ(out.reuse_ratio(), 0.5);
  EXPECT_EQ(out.optimal_reuse_ratio(), 0.75);
  EXPECT_EQ(out.routed_ahead_tokens(), 6);
  ASSERT_EQ(out.workers_size(), 2);
  EXPECT_FALSE(out.workers(0).up());
  const v1::ClusterWorker& worker = out.workers(1);
  EXPECT_EQ(worker.rank(), 1);
  EXPECT_TRUE(worker.up());
  EXPECT_TRUE(worker.member());
  EXPECT_EQ(worker.device(), "cpu");
  EXPECT_EQ(worker.unit_slots(), 2);
  EXPECT_EQ(worker.units(), std::string("\2\0\1\3", 4));
  EXPECT_EQ(worker.unit_hits(), 7);
  EXPECT_EQ(worker.unit_misses(), 4);
  EXPECT_EQ(worker.stall_us(), 150);
  ASSERT_EQ(out.steps_size(), 1);
  const v1::ClusterStep& step = out.steps(0);
  EXPECT_EQ(step.number(), 1);
  EXPECT_EQ(step.begin_us(), 1'000'001);
  EXPECT_EQ(step.round_trip_us(), 900);
  EXPECT_EQ(step.step_us(), 800);
  EXPECT_EQ(step.decode_rows(), 3);
  EXPECT_EQ(step.prefill_rows(), 1);
  EXPECT_EQ(step.prefill_tokens(), 17);
  EXPECT_EQ(step.draft_tokens(), 2);
  EXPECT_EQ(step.accepted_draft_tokens(), 1);
  EXPECT_THAT(step.experts(), ElementsAre(0, 2));
  EXPECT_EQ(step.unique_experts(), 3);
  EXPECT_EQ(step.unit_hits(), 7);
  EXPECT_EQ(step.unit_misses(), 4);
  EXPECT_EQ(step.stall_us(), 100);
}

TEST(ClusterCodecTest, UnitsAndStepsAreBounded) {
  ClusterBoard board(3);
  const std::vector<UnitState> many(kUnitsShownMax / 2 + 1, UnitState::kResident);
  board.SetWorkers(true, 1, {{.units = many}, {.units = many}, {.units = {UnitState::kAbsent}}});
  for (int i = 0; i < kStepsShownMax + 5; ++i) board.AddStep({});
  const v1::GetClusterStatusResponse out = EncodeClusterStatus(Model(), board.Read(), 0);
  EXPECT_EQ(out.workers(0).units().size(), many.size());
  EXPECT_EQ(out.workers(1).units().size(), 0);  // has no room
  EXPECT_EQ(out.workers(2).units().size(), 1);
  ASSERT_EQ(out.steps_size(), kStepsShownMax);
  EXPECT_EQ(out.steps(0).number(), 6);
}

TEST(ClusterCodecTest, TheLastStepsHaveATimeline) {
  ClusterBoard board(1);
  const auto ranks = std::make_shared<const std::vector<scheduler::RankStep>>(
      1, scheduler::RankStep{.rank = 3,
                             .incarnation = 9,
                             .begin_us = 50,
                             .step_us = 40,
                             .answered = absl::FromUnixMicros(95),
                             .device_clock = true,
                             .activities = {{Activity::kLoad, -7, 11}}});
  for (int i = 0; i < 3; ++i) board.AddStep({.ranks = ranks});
  const v1::GetClusterStatusResponse out = EncodeClusterStatus(Model(), board.Read(), 2);
  EXPECT_EQ(out.steps(0).ranks_size(), 0);
  ASSERT_EQ(out.steps(1).ranks_size(), 1);
  const v1::ClusterRankStep& rank = out.steps(2).ranks(0);
  EXPECT_EQ(rank.rank(), 3);
  EXPECT_EQ(rank.incarnation(), 9);
  EXPECT_EQ(rank.begin_us(), 50);
  EXPECT_EQ(rank.step_us(), 40);
  EXPECT_EQ(rank.answered_us(), 95);
  EXPECT_TRUE(rank.device_clock());
  ASSERT_EQ(rank.activities_size(), 1);
  EXPECT_EQ(rank.activities(0).activity(), v1::ACTIVITY_LOAD);
  EXPECT_EQ(rank.activities(0).begin_us(), -7);
  EXPECT_EQ(rank.activities(0).duration_us(), 11);
  EXPECT_EQ(EncodeClusterStatus(Model(), board.Read(), kStepsShownMax).steps(0).ranks_size(), 1);
}

TEST(ClusterCodecTest, ATimelineIsBoundedFromTheNewestStepBack) {
  ClusterBoard board(1);
  const auto ranks = std::make_shared<const std::vector<scheduler::RankStep>>(
      1, scheduler::RankStep{.activities = std::vector<ActivitySpan>(kActivitiesKeptMax)});
  for (int i = 0; i < kStepsShownMax; ++i) board.AddStep({.ranks = ranks});
  const v1::GetClusterStatusResponse out =
      EncodeClusterStatus(Model(), board.Read(), kStepsShownMax);
  const int shown = kActivitiesShownMax / kActivitiesKeptMax;
  EXPECT_EQ(out.steps(kStepsShownMax - shown).ranks_size(), 1);
  EXPECT_EQ(out.steps(kStepsShownMax - shown - 1).ranks_size(), 0);
  EXPECT_LT(out.ByteSizeLong(), kClientMessageBytesMax);
}

}  // namespace
}  // namespace pregate

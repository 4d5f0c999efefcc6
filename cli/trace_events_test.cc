#include "cli/trace_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace pregate::cli {
namespace {

using Json = nlohmann::json;

// Steps of two workers whose clocks are `skew_us` off, over links that take at least 100 us.
v1::GetClusterStatusResponse MakeStatus(std::vector<int64_t> skew_us, unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](int n) { return static_cast<int64_t>(random() % n); };
  v1::GetClusterStatusResponse status;
  for (size_t rank = 0; rank < skew_us.size(); ++rank) {
    status.add_workers()->set_rank(static_cast<int32_t>(rank));
    status.mutable_workers(static_cast<int>(rank))->set_device("cpu");
  }
  int64_t now = 1'700'000'000'000'000;
  for (int i = 0; i < 20; ++i) {
    v1::ClusterStep* const step = status.add_steps();
    step->set_number(i + 1);
    step->set_begin_us(now);
    int64_t end = now;
    for (size_t r = 0; r < skew_us.size(); ++r) {
      v1::ClusterRankStep* const rank = step->add_ranks();
      const int64_t begin = now + 100 + below(400), step_us = 1000 + below(1000);
      rank->set_rank(static_cast<int32_t>(r));
      rank->set_incarnation(5);
      rank->set_begin_us(begin + skew_us[r]);
      rank->set_step_us(step_us);
      rank->set_answered_us(begin + step_us + 100 + below(400));
      v1::ActivitySpan* const load = rank->add_activities();
      load->set_activity(v1::ACTIVITY_LOAD);
      load->set_begin_us(-50);
      load->set_duration_us(80);
      v1::ActivitySpan* const layers = rank->add_activities();
      layers->set_activity(v1::ACTIVITY_LAYERS);
      layers->set_begin_us(10);
      layers->set_duration_us(900);
      end = std::max(end, rank->answered_us());
    }
    step->set_round_trip_us(end - now);
    now = end + below(100);
  }
  return status;
}

TEST(EstimateClocksTest, FindsTheOffsetWithinItsError) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  const std::vector<int64_t> skew_us = {0, -3'000'000, 12'345'678};
  const WorkerClocks clocks = EstimateClocks(MakeStatus(skew_us, seed));
  ASSERT_EQ(clocks.size(), skew_us.size());
  for (size_t rank = 0; rank < skew_us.size(); ++rank) {
    const ClockOffset& clock = clocks.at({static_cast<int32_t>(rank), 5});
    EXPECT_LE(std::abs(clock.offset_us + skew_us[rank]), clock.error_us);
    EXPECT_LE(clock.error_us, 500) << "both ways take less";
  }
}

TEST(EstimateClocksTest, AWorkerThatCameBackHasAnotherClock) {
  v1::GetClusterStatusResponse status = MakeStatus({1000}, 1);
  v1::ClusterRankStep* const last = status.mutable_steps(19)->mutable_ranks(0);
  last->set_incarnation(6);
  last->set_begin_us(last->begin_us() + 9'000'000);
  const WorkerClocks clocks = EstimateClocks(status);
  EXPECT_NEAR(clocks.at({0, 5}).offset_us, -1000, 500);
  EXPECT_NEAR(clocks.at({0, 6}).offset_us, -9'001'000, 500);
}

TEST(ToTraceEventsTest, EveryActivityHasItsRowAndPlace) {
  const auto status = MakeStatus({0, 777'777}, 2);
  const WorkerClocks clocks = EstimateClocks(status);
  const Json trace = ToTraceEvents(status, clocks, SummarizeTimeline(status, clocks));
  int64_t first = 1, slices = 0;
  std::map<int, int64_t> layers_end, step_end;  // by process
  for (const Json& event : trace.at("traceEvents")) {
    const std::string phase = event.at("ph");
    if (phase == "M") continue;
    first = std::min(first, event.at("ts").get<int64_t>());
    if (phase != "X") continue;
    ++slices;
    const int64_t begin = event.at("ts"), end = begin + event.at("dur").get<int64_t>();
    const int pid = event.at("pid"), tid = event.at("tid");
    const std::string name = event.at("name");
    if (name.starts_with("step ")) {
      EXPECT_GE(begin, step_end[pid]) << "one step after the other";
      step_end[pid] = end;
    } else if (name == "layers") {
      EXPECT_EQ(tid, 0);
      EXPECT_LE(end, step_end[pid]) << "within its step";
    } else {
      EXPECT_EQ(name, "load");
      EXPECT_EQ(tid, 2);
    }
  }
  EXPECT_EQ(first, 0);
  EXPECT_EQ(slices, 2 * 20 * 3);
}

TEST(SummarizeTimelineTest, SumsByRow) {
  v1::GetClusterStatusResponse status = MakeStatus({0, 5}, 3);
  status.add_steps()->set_number(21);  // nothing is known of it
  status.mutable_steps(0)->mutable_ranks(1)->set_device_clock(true);
  const Json summary = SummarizeTimeline(status, EstimateClocks(status));
  EXPECT_EQ(summary.at("steps"), 20);
  const Json &a = summary.at("ranks").at(0), &b = summary.at("ranks").at(1);
  EXPECT_EQ(a.at("compute_us"), 20 * 900);
  EXPECT_EQ(a.at("loads_us"), 20 * 80);
  EXPECT_EQ(a.at("stalls_us"), 0);
  EXPECT_EQ(a.at("clock"), "host, steady");
  EXPECT_EQ(b.at("clock"), "device (exchange: host, steady)");
}

}  // namespace
}  // namespace pregate::cli

#include "expert_service/engine/worker_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace pregate {
namespace {

using testing::HasSubstr;

class WorkerMetricsTest : public testing::Test {
 protected:
  testing::Matcher<std::string> Series(const std::string& name, const std::string& labels,
                                       const std::string& value) {
    return HasSubstr(
        absl::StrCat("\npregate_", name, "{model=\"tiny\",", labels, "} ", value, "\n"));
  }
  testing::Matcher<std::string> Series(const std::string& name, const std::string& value) {
    return Series(name, "rank=\"3\"", value);
  }
  void Answer(int64_t step_us, const StepTimes& times, absl::Status status = absl::OkStatus()) {
    StepResult result;
    result.status = std::move(status);
    result.step_us = step_us;
    metrics_.OnStep(result, times);
  }

  MetricsRegistry registry_{"tiny"};
  const Log log_{"worker", {}, [](absl::string_view) {}};
  WorkerMetrics metrics_{&registry_, &log_, 3};
};

TEST_F(WorkerMetricsTest, CountsAStepUnderItsRank) {
  metrics_.OnMemory(MemoryPlan{.kv_bytes = 77});
  Answer(2500, {.router_us = 300,
                .stall_us = 1500000,
                .num_tokens = 5,
                .unit_hits = 7,
                .unit_misses = 2,
                .unit_late_prefetches = 1,
                .exchange_us = 400,
                .exchange_bytes_sent = 80,
                .exchange_bytes_received = 96});
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, Series("worker_step_seconds_sum", "0.0025"));
  EXPECT_THAT(text, Series("worker_router_seconds_sum", "0.0003"));
  EXPECT_THAT(text, Series("worker_tokens_total", "5"));
  EXPECT_THAT(text, Series("expert_stall_seconds_total", "1.5"));
  EXPECT_THAT(text, Series("expert_late_stall_seconds_total", "0.5"));
  EXPECT_THAT(text, Series("expert_cache_hits_total", "7"));
  EXPECT_THAT(text, Series("expert_cache_misses_total", "2"));
  EXPECT_THAT(text, Series("expert_cache_late_prefetches_total", "1"));
  EXPECT_THAT(text, Series("exchange_seconds_count", "1"));
  EXPECT_THAT(text, Series("exchange_seconds_sum", "0.0004"));
  EXPECT_THAT(text, Series("exchange_bytes_total", "direction=\"sent\",rank=\"3\"", "80"));
  EXPECT_THAT(text, Series("exchange_bytes_total", "direction=\"received\",rank=\"3\"", "96"));
  EXPECT_THAT(text, Series("worker_memory_bytes", "part=\"kv\",rank=\"3\"", "77"));
}

TEST_F(WorkerMetricsTest, AStepWithoutExchangeIsNoExchangeOfZeroSeconds) {
  Answer(2500, {});
  EXPECT_THAT(registry_.Serialize(), Series("exchange_seconds_count", "0"));
}

TEST_F(WorkerMetricsTest, AFailedStepIsNoStep) {
  Answer(2500, {.num_tokens = 5}, absl::AbortedError("stopped"));
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, Series("worker_failed_steps_total", "1"));
  EXPECT_THAT(text, Series("worker_step_seconds_count", "0"));
  EXPECT_THAT(text, Series("worker_tokens_total", "0"));
}

TEST_F(WorkerMetricsTest, FollowsWhatIsResidentBetweenStepsToo) {
  metrics_.OnResidency(
      {.units = 4, .slots = 6, .bytes = 4000, .demand_bytes = 300, .ahead_bytes = 700});
  std::string text = registry_.Serialize();
  EXPECT_THAT(text, Series("expert_resident_units", "4"));
  EXPECT_THAT(text, Series("expert_resident_bytes", "4000"));
  EXPECT_THAT(text, Series("expert_cache_slots", "6"));
  EXPECT_THAT(text, Series("expert_loaded_bytes_total", "rank=\"3\",reason=\"demand\"", "300"));
  EXPECT_THAT(text, Series("expert_loaded_bytes_total", "rank=\"3\",reason=\"ahead\"", "700"));
  EXPECT_THAT(text, Series("expert_cache_evictions_total", "0"));
  ResidencyStats now{.units = 6, .slots = 6, .bytes = 6000, .loads = 9, .evictions = 3};
  metrics_.OnResidency(now);
  now.evictions = 5;
  metrics_.OnResidency(now);
  text = registry_.Serialize();
  EXPECT_THAT(text, Series("expert_resident_units", "6"));
  EXPECT_THAT(text, Series("expert_resident_bytes", "6000"));
  EXPECT_THAT(text, Series("expert_cache_loads_total", "9"));
  EXPECT_THAT(text, Series("expert_cache_evictions_total", "5"));
}

TEST_F(WorkerMetricsTest, WorkersOfOneProcessShareARegistry) {
  WorkerMetrics other(&registry_, &log_, 4);
  Answer(2500, {.num_tokens = 5});
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, Series("worker_tokens_total", "rank=\"3\"", "5"));
  EXPECT_THAT(text, Series("worker_tokens_total", "rank=\"4\"", "0"));
}

}  // namespace
}  // namespace pregate

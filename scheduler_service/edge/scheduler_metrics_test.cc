#include "scheduler_service/edge/scheduler_metrics.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

class SchedulerMetricsTest : public ::testing::Test {
 protected:
  std::vector<std::string> lines_;
  Log log_{"scheduler", {}, [this](absl::string_view line) { lines_.emplace_back(line); }};
  MetricsRegistry registry_{"tiny"};
  SchedulerMetrics metrics_{&registry_, &log_, 2};
};

TEST_F(SchedulerMetricsTest, CountsTokensByTheirExpert) {
  metrics_.CountPrompt({.prompt_tokens = 3, .prompt_routes = {0, 1, 1}});
  metrics_.CountTokens({.tokens = {5, 6}, .routes = {1, kNoRoute}});
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("pregate_prompt_tokens_total{model=\"tiny\"} 3"));
  EXPECT_THAT(text, HasSubstr("pregate_generation_tokens_total{model=\"tiny\"} 2"));
  EXPECT_THAT(text, HasSubstr("pregate_expert_tokens_total{model=\"tiny\",expert=\"0\"} 1"));
  EXPECT_THAT(text, HasSubstr("pregate_expert_tokens_total{model=\"tiny\",expert=\"1\"} 3"));
}

TEST_F(SchedulerMetricsTest, SaysWhyRequestsEnded) {
  metrics_.OnDone({.reason = FinishReason::kLength, .total = absl::Seconds(2)});
  metrics_.OnDone({.status = absl::ResourceExhaustedError("full"), .reason = FinishReason::kError});
  metrics_.OnDone({.status = absl::CancelledError(""), .reason = FinishReason::kCancelled});
  const std::string text = registry_.Serialize();
  for (const char* reason : {"length", "refused", "cancelled"}) {
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("pregate_requests_total{model=\"tiny\",finish_reason=\"",
                                       reason, "\"} 1")));
  }
  EXPECT_THAT(text, HasSubstr("pregate_e2e_request_latency_seconds_count{model=\"tiny\"} 1"));
}

TEST_F(SchedulerMetricsTest, FollowsGaugesAndFormations) {
  metrics_.OnGauges({.requests_running = 2,
                     .requests_waiting = 1,
                     .workers_up = 1,
                     .kv_blocks = 8,
                     .kv_blocks_used = 2});
  metrics_.OnFormed(3, {.model_digest = "d", .numerics_id = "n", .context_tokens = 9});
  metrics_.OnRecovery("worker 0 is down");
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("pregate_kv_cache_usage_ratio{model=\"tiny\"} 0.25"));
  EXPECT_THAT(text, HasSubstr("pregate_num_requests_running{model=\"tiny\"} 2"));
  EXPECT_THAT(text, HasSubstr("pregate_recoveries_total{model=\"tiny\"} 1"));
  EXPECT_EQ(metrics_.facts().numerics_id, "n");
  EXPECT_EQ(metrics_.facts().context_tokens, 9);
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_THAT(lines_[1], HasSubstr("worker 0 is down"));
}

}  // namespace
}  // namespace pregate

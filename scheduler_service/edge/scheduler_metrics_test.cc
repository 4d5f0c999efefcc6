#include "scheduler_service/edge/scheduler_metrics.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

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
  std::string text = registry_.Serialize();
  for (const char* reason : {"length", "stop_token", "stop_string", "cancelled", "deadline",
                             "error", "refused", "unavailable", "invalid"}) {
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("pregate_requests_total{model=\"tiny\",finish_reason=\"",
                                       reason, "\"} 0")));
  }
  metrics_.OnDone({.reason = FinishReason::kLength, .total = absl::Seconds(2)});
  metrics_.OnDone({.status = absl::ResourceExhaustedError("full"), .reason = FinishReason::kError});
  metrics_.OnDone({.status = absl::CancelledError(""), .reason = FinishReason::kCancelled});
  metrics_.OnDone({.status = absl::InternalError("row"), .reason = FinishReason::kError});
  metrics_.OnDone({.status = absl::UnavailableError("drains"), .reason = FinishReason::kError});
  metrics_.OnDone({.status = absl::DeadlineExceededError(""), .reason = FinishReason::kDeadline});
  metrics_.CountRefusal(absl::InvalidArgumentError("top_k is -1"));
  text = registry_.Serialize();
  for (const char* reason :
       {"length", "refused", "cancelled", "error", "unavailable", "deadline", "invalid"}) {
    EXPECT_THAT(text,
                HasSubstr(absl::StrCat("pregate_requests_total{model=\"tiny\",finish_reason=\"",
                                       reason, "\"} 1")));
  }
  EXPECT_THAT(text, HasSubstr("pregate_e2e_request_latency_seconds_count{model=\"tiny\"} 1"));
}

TEST_F(SchedulerMetricsTest, FollowsGaugesAndFormations) {
  metrics_.OnGauges({.requests_running = 2,
                     .requests_waiting = 1,
                     .workers_up = {true, false},
                     .kv_blocks = 8,
                     .kv_blocks_used = 2,
                     .routed_ahead = 40,
                     .reuse = {.ratio = 0.75, .optimal_ratio = 0.875}});
  metrics_.OnFormed(3, {.model_digest = "d", .numerics_id = "n", .context_tokens = 9});
  metrics_.OnRecovery("worker 0 is down");
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("pregate_kv_cache_usage_ratio{model=\"tiny\"} 0.25"));
  EXPECT_THAT(text, HasSubstr("pregate_num_requests_running{model=\"tiny\"} 2"));
  EXPECT_THAT(text, HasSubstr("pregate_worker_up{model=\"tiny\",rank=\"0\"} 1"));
  EXPECT_THAT(text, HasSubstr("pregate_worker_up{model=\"tiny\",rank=\"1\"} 0"));
  EXPECT_THAT(text, HasSubstr("pregate_recoveries_total{model=\"tiny\"} 1"));
  EXPECT_THAT(text, HasSubstr("pregate_routed_ahead_tokens{model=\"tiny\"} 40"));
  EXPECT_THAT(text, HasSubstr("pregate_expert_reuse_ratio{model=\"tiny\"} 0.75"));
  EXPECT_THAT(text, HasSubstr("pregate_expert_optimal_reuse_ratio{model=\"tiny\"} 0.875"));
  EXPECT_EQ(metrics_.facts().numerics_id, "n");
  EXPECT_EQ(metrics_.facts().context_tokens, 9);
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_THAT(lines_[1], HasSubstr("worker 0 is down"));
}

TEST_F(SchedulerMetricsTest, ObservesAStepOnce) {
  metrics_.OnStep({.duration = absl::Milliseconds(20),
                   .round_trip = absl::Milliseconds(25),
                   .num_tokens = 7,
                   .unique_experts = 2});
  const std::string text = registry_.Serialize();
  EXPECT_THAT(text, HasSubstr("pregate_step_duration_seconds_sum{model=\"tiny\"} 0.02"));
  EXPECT_THAT(text, HasSubstr("pregate_step_round_trip_seconds_sum{model=\"tiny\"} 0.025"));
  EXPECT_THAT(text, HasSubstr("pregate_step_tokens_sum{model=\"tiny\"} 7"));
  EXPECT_THAT(text, HasSubstr("pregate_step_unique_experts_sum{model=\"tiny\"} 2"));
}

TEST_F(SchedulerMetricsTest, CountsWhatThePrefixCacheWasAskedAndHad) {
  metrics_.OnPrefix(100, 64);
  metrics_.OnPrefix(50, 0);
  metrics_.OnGauges(
      {.kv_blocks = 40, .kv_blocks_used = 10, .kv_blocks_cached = 20, .kv_evictions = 5});
  metrics_.OnGauges(
      {.kv_blocks = 40, .kv_blocks_used = 10, .kv_blocks_cached = 30, .kv_evictions = 7});
  const std::string text = registry_.Serialize();
  for (const char* line : {"pregate_prefix_cache_queries_total{model=\"tiny\"} 150",
                           "pregate_prefix_cache_hits_total{model=\"tiny\"} 64",
                           "pregate_prefix_cache_evictions_total{model=\"tiny\"} 7",
                           "pregate_prefix_cache_usage_ratio{model=\"tiny\"} 0.75",
                           "pregate_kv_cache_usage_ratio{model=\"tiny\"} 0.25"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

// An alert on router_up must not tell of a router that is not there.
// Tokens that come together share the time since the one before them.
TEST_F(SchedulerMetricsTest, CountsDraftsAndTheTokensOfOneMessage) {
  metrics_.OnDone({.reason = FinishReason::kLength, .draft_tokens = 5, .accepted_tokens = 3});
  metrics_.OnNextTokens(absl::Seconds(4), 4);
  const std::string text = registry_.Serialize();
  for (const char* line : {"pregate_draft_tokens_total{model=\"tiny\"} 5",
                           "pregate_accepted_draft_tokens_total{model=\"tiny\"} 3",
                           "pregate_inter_token_latency_seconds_count{model=\"tiny\"} 4",
                           "pregate_inter_token_latency_seconds_sum{model=\"tiny\"} 4"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(SchedulerMetricsTest, ADenseModelHasNoRouterToBeUp) {
  MetricsRegistry registry("dense");
  SchedulerMetrics metrics(&registry, &log_, /*num_experts=*/0);
  metrics.OnGauges({.requests_running = 1, .router_up = false});
  EXPECT_THAT(registry.Serialize(), Not(HasSubstr("router_up")));
  metrics_.OnGauges({.requests_running = 1, .router_up = true});
  EXPECT_THAT(registry_.Serialize(), HasSubstr("pregate_router_up{model=\"tiny\"} 1"));
}

TEST_F(SchedulerMetricsTest, CountsPreemptionsWhenTheyHappen) {
  metrics_.OnPreempted(2);
  metrics_.OnDone({.reason = FinishReason::kLength, .preemptions = 2});
  EXPECT_THAT(registry_.Serialize(), HasSubstr("pregate_preemptions_total{model=\"tiny\"} 2"));
}

// A client feels 1 ms between tokens and waits 100 s for a prompt: both have a bucket of their own.
TEST_F(SchedulerMetricsTest, BucketsResolveMillisecondsAndLongPrompts) {
  metrics_.OnNextTokens(absl::Microseconds(900), 1);
  metrics_.OnNextTokens(absl::Microseconds(1900), 1);
  metrics_.OnFirstToken(absl::Seconds(95));
  const std::string text = registry_.Serialize();
  const auto bucket = [](const char* name, const char* le, int count) {
    return HasSubstr(absl::StrCat("pregate_", name, "_seconds_bucket{model=\"tiny\",le=\"", le,
                                  "\"} ", count, "\n"));
  };
  EXPECT_THAT(text, bucket("inter_token_latency", "0.001", 1));
  EXPECT_THAT(text, bucket("inter_token_latency", "0.002", 2));
  EXPECT_THAT(text, bucket("time_to_first_token", "80", 0));
  EXPECT_THAT(text, bucket("time_to_first_token", "100", 1));
}

}  // namespace
}  // namespace pregate

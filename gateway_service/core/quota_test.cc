#include "gateway_service/core/quota.h"

#include <cstdio>
#include <random>

#include "common/base/hash.h"
#include "gtest/gtest.h"

namespace pregate::gateway {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

TEST(QuotaTableTest, SoManyAtOnce) {
  QuotaTable quotas;
  const ApiToken token = {.sha256 = "a", .concurrent_max = 2};
  EXPECT_TRUE(quotas.Admit(token, kStart).status.ok());
  EXPECT_TRUE(quotas.Admit(token, kStart).status.ok());
  const auto third = quotas.Admit(token, kStart);
  EXPECT_TRUE(absl::IsResourceExhausted(third.status)) << third.status;
  EXPECT_GT(third.retry_after, absl::ZeroDuration());
  EXPECT_TRUE(quotas.Admit({.sha256 = "b", .concurrent_max = 1}, kStart).status.ok())
      << "another's";
  quotas.Release(token);
  EXPECT_TRUE(quotas.Admit(token, kStart).status.ok());
}

TEST(QuotaTableTest, ABucketFillsEvenly) {
  QuotaTable quotas;
  const ApiToken token = {.sha256 = "a", .tokens_per_minute = 60};
  ASSERT_TRUE(quotas.Admit(token, kStart).status.ok());
  quotas.Charge(token, 90, kStart);
  const auto refused = quotas.Admit(token, kStart + absl::Seconds(10));
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status));
  EXPECT_EQ(refused.retry_after, absl::Seconds(21));  // 20 below zero, and one to begin with
  EXPECT_TRUE(quotas.Admit(token, kStart + absl::Seconds(31)).status.ok());
}

// Over any stretch no more is used than a bucket and what flowed in, and one request's overshoot.
TEST(QuotaTableTest, NobodyUsesMoreThanAllowed) {
  const auto seed = std::random_device()();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    QuotaTable quotas;
    const ApiToken token = {.sha256 = "a",
                            .tokens_per_minute = 1 + static_cast<int32_t>(random() % 10000)};
    absl::Time now = kStart;
    double used = 0, largest = 0;
    for (int i = 0; i < 300; ++i) {
      now += absl::Milliseconds(random() % 3000);
      if (!quotas.Admit(token, now).status.ok()) continue;
      const auto cost = static_cast<int64_t>(random() % 2000);
      quotas.Charge(token, cost, now);
      quotas.Release(token);
      used += static_cast<double>(cost);
      largest = std::max(largest, static_cast<double>(cost));
      const double allowed = token.tokens_per_minute * (1 + absl::ToDoubleMinutes(now - kStart));
      ASSERT_LE(used, allowed + largest + 1e-6) << "round " << round;
    }
  }
}

TEST(QuotaTableTest, ForgetsTokensThatAreGone) {
  QuotaTable quotas;
  const ApiToken token = {.sha256 = "a", .tokens_per_minute = 1};
  ASSERT_TRUE(quotas.Admit(token, kStart).status.ok());
  quotas.Charge(token, 100, kStart);
  quotas.Prune({});
  EXPECT_FALSE(quotas.Admit(token, kStart).status.ok()) << "it still runs a request";
  quotas.Release(token);
  quotas.Prune({});
  EXPECT_TRUE(quotas.Admit(token, kStart).status.ok());
}

}  // namespace
}  // namespace pregate::gateway

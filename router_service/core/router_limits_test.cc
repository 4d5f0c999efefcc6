#include "router_service/core/router_limits.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using testing::HasSubstr;

RouterLimits SomeLimits() {
  return {.vocab_size = 100,
          .context_tokens_max = 160,
          .sessions_max = 4,
          .kv_blocks = 10,
          .step_tokens_max = 32,
          .requests_max = 8};
}

TEST(RouterLimitsTest, NamesTheLimitAtFault) {
  EXPECT_TRUE(ValidateLimits(SomeLimits()).ok());
  const struct {
    int RouterLimits::*field;
    int value;
    const char* message;
  } cases[] = {
      {&RouterLimits::vocab_size, 0, "vocab_size: 0 is below 1"},
      {&RouterLimits::sessions_max, -3, "sessions_max: -3 is below 1"},
      {&RouterLimits::step_tokens_max, 0, "step_tokens_max: 0 is below 1"},
      {&RouterLimits::requests_max, 0, "requests_max: 0 is below 1"},
      {&RouterLimits::kv_blocks, 9,
       "kv_blocks: 9 blocks hold 144 tokens, fewer than context_tokens_max 160"},
  };
  for (const auto& c : cases) {
    RouterLimits limits = SomeLimits();
    limits.*c.field = c.value;
    EXPECT_EQ(ValidateLimits(limits).message(), c.message);
  }
  RouterLimits limits = SomeLimits();
  limits.session_idle_max = absl::ZeroDuration();
  EXPECT_THAT(std::string(ValidateLimits(limits).message()), HasSubstr("session_idle_max: 0"));
}

TEST(RouterLimitsTest, RefusesMalformedRequestsNamingFieldAndValue) {
  const RouterLimits limits = SomeLimits();
  const struct {
    RouteRequest request;
    const char* message;
  } cases[] = {
      {{.tokens = {}}, "tokens: is empty"},
      {{.tokens = {1, 100}}, "tokens[1]: 100 is not below the vocabulary of 100"},
      {{.tokens = {-1}}, "tokens[0]: -1 is not below the vocabulary of 100"},
      {{.base = -1, .tokens = {1}}, "base: -1 is negative"},
      {{.base = 159, .tokens = {1, 2}}, "base: 159 plus 2 tokens is beyond the context of 160"},
      {{.base = 2147483647, .tokens = {1}},
       "base: 2147483647 plus 1 tokens is beyond the context of 160"},
      {{.tokens = std::vector<TokenId>(8193, 1)}, "tokens: has 8193, the limit is 8192"},
  };
  for (const auto& c : cases) {
    const absl::Status status = ValidateRequest(c.request, limits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), c.message);
  }
  EXPECT_TRUE(ValidateRequest({.base = 158, .tokens = {0, 99}}, limits).ok());
}

}  // namespace
}  // namespace pregate

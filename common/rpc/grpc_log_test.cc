#include "common/rpc/grpc_log.h"

#include <grpc/support/log.h>

#include <string>
#include <vector>

#include "common/base/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(GrpcLogTest, AnAssertionIsLoggedThoughTheRateIsSpent) {
  std::vector<std::string> lines;
  const Log log("test", {}, [&](absl::string_view line) { lines.emplace_back(line); });
  ManualClock clock;
  gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);  // as gRPC does when it starts
  const GrpcLog grpc_log(&log, &clock);
  for (int i = 0; i < kRefusalLinesMax + 100; ++i) gpr_log(GPR_ERROR, "nothing much");
  ASSERT_EQ(lines.size(), static_cast<size_t>(kRefusalLinesMax));
  gpr_log(__FILE__, 42, GPR_LOG_SEVERITY_ERROR, "assertion failed: %s", "ok");
  ASSERT_EQ(lines.size(), static_cast<size_t>(kRefusalLinesMax) + 1);
  EXPECT_THAT(lines.back(), AllOf(HasSubstr("grpc aborts"), HasSubstr("grpc_log_test.cc:42"),
                                  HasSubstr("assertion failed: ok")));
}

}  // namespace
}  // namespace pregate

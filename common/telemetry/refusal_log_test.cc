#include "common/telemetry/refusal_log.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

using ::testing::HasSubstr;

TEST(RefusalLogTest, WritesAWindowsFirstLinesAndCountsTheRest) {
  std::vector<std::string> lines;
  const Log log("test", {}, [&](absl::string_view line) { lines.emplace_back(line); });
  ManualClock clock;
  RefusalLog refusals(&log, &clock);
  for (int i = 0; i < kRefusalLinesMax + 1000; ++i) refusals.Add("here", absl::StrCat("why ", i));
  ASSERT_EQ(lines.size(), static_cast<size_t>(kRefusalLinesMax));
  EXPECT_THAT(lines[0], HasSubstr("at=\"here\" reason=\"why 0\" not_logged=0"));
  clock.Advance(absl::Milliseconds(kRefusalWindowMs));
  refusals.Add("here", "again");
  refusals.Add("here", "and again");
  ASSERT_EQ(lines.size(), static_cast<size_t>(kRefusalLinesMax) + 2);
  EXPECT_THAT(lines[kRefusalLinesMax], HasSubstr("reason=\"again\" not_logged=1000"));
  EXPECT_THAT(lines[kRefusalLinesMax + 1], HasSubstr("not_logged=0"));
}

}  // namespace
}  // namespace pregate

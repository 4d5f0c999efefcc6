#include "common/telemetry/process_metrics.h"

#include <unistd.h>

#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace pregate {
namespace {

// The value of a series without labels.
double Value(const MetricsRegistry& registry, const std::string& name) {
  const std::string text = registry.Serialize();
  const size_t at = text.find("\n" + name + " ");
  double value = -1;
  if (at == std::string::npos) return value;
  const size_t begin = at + name.size() + 2;
  EXPECT_TRUE(absl::SimpleAtod(text.substr(begin, text.find('\n', begin) - begin), &value));
  return value;
}

TEST(ProcessMetricsTest, SaysWhatRunsSinceWhen) {
  MetricsRegistry registry("tiny");
  AddProcessMetrics(&registry);
  EXPECT_THAT(registry.Serialize(),
              testing::ContainsRegex("\npregate_build_info\\{.*version=\"[0-9]"));
  const double now = absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch());
  const double start = Value(registry, "process_start_time_seconds");
  EXPECT_LE(start, now + 1);
  EXPECT_GT(start, now - 600);
}

TEST(ProcessMetricsTest, FollowsMemoryAndFiles) {
  MetricsRegistry registry("tiny");
  AddProcessMetrics(&registry);
  const double files = Value(registry, "process_open_fds");
  const double memory = Value(registry, "process_resident_memory_bytes");
  std::ifstream open("/proc/self/stat");
  constexpr size_t kBytes = 64 << 20;
  const std::vector<char> touched(kBytes, 1);
  EXPECT_EQ(Value(registry, "process_open_fds"), files + 1);
  EXPECT_GT(Value(registry, "process_resident_memory_bytes"), memory + kBytes / 2);
  EXPECT_EQ(touched.back(), 1);
}

}  // namespace
}  // namespace pregate

#include "common/telemetry/process_metrics.h"

#include <unistd.h>

#include <ctime>
#include <fstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/synchronization/notification.h"
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

TEST(ProcessMetricsTest, CountsCpuTimeAndThreads) {
  MetricsRegistry registry("tiny");
  AddProcessMetrics(&registry);
  const double cpu = Value(registry, "process_cpu_seconds_total");
  EXPECT_GT(cpu, 0);
  const auto until = std::clock() + CLOCKS_PER_SEC / 20;
  while (std::clock() < until) {
  }
  EXPECT_GE(Value(registry, "process_cpu_seconds_total"), cpu + 0.04);
  EXPECT_THAT(registry.Serialize(), testing::HasSubstr("# TYPE process_cpu_seconds_total counter"));

  const double threads = Value(registry, "process_threads");
  EXPECT_GE(threads, 1);
  absl::Notification stop;
  std::thread one([&] { stop.WaitForNotification(); });
  EXPECT_EQ(Value(registry, "process_threads"), threads + 1);
  stop.Notify();
  one.join();
  EXPECT_GT(Value(registry, "process_max_fds"), Value(registry, "process_open_fds"));
  EXPECT_GE(Value(registry, "process_virtual_memory_bytes"),
            Value(registry, "process_resident_memory_bytes"));
}

}  // namespace
}  // namespace pregate

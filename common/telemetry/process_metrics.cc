#include "common/telemetry/process_metrics.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

#include "common/base/limits.h"
#include "common/base/process.h"

namespace pregate {

namespace {

// Fields of /proc/self/stat after the program's name, which is in parentheses and may hold spaces.
enum class StatField { kThreads = 17, kStartTicks = 19 };

double ReadStat(StatField wanted) {
  std::ifstream stat("/proc/self/stat");
  std::string text, skipped;
  std::getline(stat, text);
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  for (int i = 0; i < static_cast<int>(wanted); ++i) fields >> skipped;
  double value = 0;
  fields >> value;
  return value;
}

double StartTimeSeconds() {
  std::ifstream system("/proc/stat");
  std::string field;
  double boot = 0;
  while (system >> field && field != "btime") system.ignore(1 << 20, '\n');
  system >> boot;
  return boot + ReadStat(StatField::kStartTicks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct MemoryBytes {
  double total = 0, resident = 0;
};

MemoryBytes ReadMemory() {
  std::ifstream statm("/proc/self/statm");
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  MemoryBytes pages;
  statm >> pages.total >> pages.resident;
  return {pages.total * page, pages.resident * page};
}

rlimit DescriptorLimit() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

double OpenFiles() {
  std::error_code error;
  double files = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    ++files;
  }
  return files;
}

// What changes, each at its metric.
void AddCurrent(MetricsRegistry* registry) {
  Counter& cpu = registry->AddProcessCounter("process_cpu_seconds_total",
                                             "CPU time of the process, its kernel's time included");
  Gauge& memory =
      registry->AddProcessGauge("process_resident_memory_bytes", "Resident memory of the process");
  Gauge& address_space =
      registry->AddProcessGauge("process_virtual_memory_bytes", "Address space of the process");
  Gauge& files = registry->AddProcessGauge("process_open_fds", "File descriptors that are open");
  Gauge& files_max =
      registry->AddProcessGauge("process_max_fds", "File descriptors that may be open");
  Gauge& threads = registry->AddProcessGauge("process_threads", "Threads of the process");
  registry->BeforeSerialize([&cpu, &memory, &address_space, &files, &files_max, &threads] {
    cpu.Increment(std::max(0.0, CpuSeconds() - cpu.Value()));
    const MemoryBytes bytes = ReadMemory();
    memory.Set(bytes.resident);
    address_space.Set(bytes.total);
    files.Set(OpenFiles());
    files_max.Set(static_cast<double>(DescriptorLimit().rlim_cur));
    threads.Set(ReadStat(StatField::kThreads));
  });
}

}  // namespace

void AddProcessMetrics(MetricsRegistry* registry) {
  registry
      ->AddGauge("build_info", "1; the labels say what runs",
                 {{"version", Version()}, {"commit", Commit()}})
      .Set(1);
  registry
      ->AddProcessGauge("process_start_time_seconds", "Start of the process, in seconds since 1970")
      .Set(StartTimeSeconds());
  AddCurrent(registry);
}

void RaiseDescriptorLimit(const Log& log) {
  const rlimit before = DescriptorLimit();
  rlimit raised = before;
  raised.rlim_cur = before.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &raised) != 0) raised = before;
  log.Info("descriptors", {{"limit", raised.rlim_cur}, {"before", before.rlim_cur}});
}

int ConnectionsThatFit(int max, int descriptors_each) {
  constexpr rlim_t kSmallest = 2 * kDescriptorsReserved;
  const rlim_t limit = std::max(DescriptorLimit().rlim_cur, kSmallest);
  const rlim_t fit = (limit - kDescriptorsReserved) / descriptors_each;
  return static_cast<int>(std::min<rlim_t>(fit, max));
}

}  // namespace pregate

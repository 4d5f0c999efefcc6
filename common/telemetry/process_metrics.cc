#include "common/telemetry/process_metrics.h"

#include <sys/resource.h>
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
constexpr int kFieldsBeforeStartTime = 19;

double StartTimeSeconds() {
  std::ifstream stat("/proc/self/stat");
  std::string text, field;
  std::getline(stat, text);
  std::ifstream system("/proc/stat");
  double boot = 0, ticks = 0;
  while (system >> field && field != "btime") system.ignore(1 << 20, '\n');
  system >> boot;
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  for (int i = 0; i < kFieldsBeforeStartTime; ++i) fields >> field;
  fields >> ticks;
  return boot + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
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

}  // namespace

void AddProcessMetrics(MetricsRegistry* registry) {
  registry
      ->AddGauge("build_info", "1; the labels say what runs",
                 {{"version", Version()}, {"commit", Commit()}})
      .Set(1);
  registry
      ->AddProcessGauge("process_start_time_seconds", "Start of the process, in seconds since 1970")
      .Set(StartTimeSeconds());
  Gauge& memory =
      registry->AddProcessGauge("process_resident_memory_bytes", "Resident memory of the process");
  Gauge& files = registry->AddProcessGauge("process_open_fds", "File descriptors that are open");
  registry->BeforeSerialize([&memory, &files] {
    memory.Set(ResidentBytes());
    files.Set(OpenFiles());
  });
}

namespace {

rlimit DescriptorLimit() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

}  // namespace

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

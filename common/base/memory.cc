#include "common/base/memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace pregate {
namespace {

std::optional<int64_t> NumberIn(const char* path) {
  int64_t number = 0;
  std::ifstream file(path);
  return file >> number ? std::optional<int64_t>(number) : std::nullopt;  // not for "max"
}

// The number behind `name` in a file of lines "NAME NUMBER ...".
int64_t NumberOf(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word, rest;
  for (int64_t number = 0; file >> word >> number && std::getline(file, rest);) {
    if (word == name) return number;
  }
  return 0;
}

}  // namespace

std::optional<int64_t> AvailableMemoryBytes() {
  const int64_t machine = NumberOf("/proc/meminfo", "MemAvailable:") << 10;
  if (machine == 0) return std::nullopt;
  // Of the control group (v2) that a container sees as its root.
  constexpr char kStat[] = "/sys/fs/cgroup/memory.stat";
  const auto limit = NumberIn("/sys/fs/cgroup/memory.max");
  const auto used = NumberIn("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return machine;
  const int64_t cached = NumberOf(kStat, "inactive_file") + NumberOf(kStat, "active_file");
  return std::min(machine, std::max<int64_t>(*limit - (*used - cached), 0));
}

}  // namespace pregate

#include "common/base/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/base/remove_on_signal.h"

namespace pregate {

namespace {

void OpenClosedStreams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(fd, F_GETFD) >= 0) continue;
    // open takes the lowest free number, which is this one.
    if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
}

// Anything but exhausted memory is a broken invariant.
[[noreturn]] void OnTerminate() {
  try {
    if (const std::exception_ptr current = std::current_exception()) {
      std::rethrow_exception(current);
    }
  } catch (const std::bad_alloc&) {
    RemoveHalfWritten();
    constexpr char kMessage[] = "pregate: out of memory\n";
    if (write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1) < 0) {
      // There is nobody to tell.
    }
    _exit(EXIT_FAILURE);
  } catch (const std::exception& other) {
    std::fprintf(stderr, "uncaught exception: %s\n", other.what());
  } catch (...) {
    std::fputs("uncaught exception\n", stderr);
  }
  std::abort();
}

}  // namespace

void PrepareProcess() {
  OpenClosedStreams();
  std::set_terminate(OnTerminate);
  // Debian builds Abseil with its checks on, and gRPC's locks are Abseil's: looking for cycles among them
  // takes 3 to 5% of a server's time (docs/BENCHMARKS.md, "The front door alone"). Tests go on looking.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

absl::Status FlushStandardOutput() {
  const bool lost_before = std::ferror(stdout) != 0;
  const bool flushed = std::fflush(stdout) == 0;
  if (flushed && !lost_before) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("standard output cannot be written",
                                             flushed ? "" : ": ",
                                             flushed ? "" : std::strerror(errno)));
}

uint64_t RandomId() {
  thread_local std::random_device device;  // to open one takes longer than to ask it
  return (uint64_t{device()} << 32) | device();
}

namespace {

// Of the control group (v2) that a container sees as its root.
constexpr char kGroupLimit[] = "/sys/fs/cgroup/memory.max";

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
  constexpr char kStat[] = "/sys/fs/cgroup/memory.stat";
  const auto limit = NumberIn(kGroupLimit);
  const auto used = NumberIn("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return machine;
  const int64_t cached = NumberOf(kStat, "inactive_file") + NumberOf(kStat, "active_file");
  return std::min(machine, std::max<int64_t>(*limit - (*used - cached), 0));
}

std::optional<int64_t> TotalMemoryBytes() {
  const int64_t machine = NumberOf("/proc/meminfo", "MemTotal:") << 10;
  if (machine == 0) return std::nullopt;
  return std::min(machine, NumberIn(kGroupLimit).value_or(machine));
}

const char* Version() { return PREGATE_VERSION; }
const char* Commit() { return PREGATE_COMMIT; }

std::string VersionText() {
  const std::string commit = Commit();
  return Version() + (commit.empty() ? "" : " (" + commit + ")");
}

}  // namespace pregate

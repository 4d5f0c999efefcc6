// A child process of an integration test: started with its output in a file, signalled, awaited.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace pregate::testing {

// A directory under the system's temporary folder, removed with the object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Killed with SIGKILL when the object goes, if it still runs. Not thread-safe.
class Process {
 public:
  // argv[0] is the program's path; stdout and stderr are appended to `log_path`.
  Process(std::vector<std::string> argv, std::string log_path);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal);
  void Kill();  // SIGKILL and reap
  // Exit code, 128 + signal when killed, or nothing when it still runs after `timeout`.
  std::optional<int> Wait(absl::Duration timeout);
  bool running();
  std::string Log() const;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
  std::string log_path_;
};

// Runs a program to its end; returns exit code and standard output.
struct Finished {
  int exit_code = -1;
  std::string out, err;
};
Finished RunProgram(const std::vector<std::string>& argv,
                    absl::Duration timeout = absl::Minutes(5));

// Polls `done` every 5 ms until it is true or `timeout` has passed.
template <typename F>
bool WaitUntil(F done, absl::Duration timeout);

std::string ReadFile(const std::string& path);  // "" when there is none
void SleepBriefly();                            // 5 ms, the poll interval

template <typename F>
bool WaitUntil(F done, absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  while (!done()) {
    if (absl::Now() > end) return false;
    SleepBriefly();
  }
  return true;
}

}  // namespace pregate::testing

#include "tests/integration/process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/status.h"

extern char** environ;

namespace pregate::testing {
namespace {

int ExitCode(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

pid_t Spawn(const std::vector<std::string>& argv, const std::string& out, const std::string& err) {
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND;
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), kFlags, 0644);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), kFlags, 0644);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, args[0], &actions, nullptr, args.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  PREGATE_CHECK(error == 0, "cannot start ", argv[0], ": ", strerror(error));
  return pid;
}

}  // namespace

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "pregate-test-XXXXXX").string();
  PREGATE_CHECK(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Process::Process(std::vector<std::string> argv, std::string log_path)
    : log_path_(std::move(log_path)) {
  pid_ = Spawn(argv, log_path_, log_path_);
}

Process::~Process() { Kill(); }

void Process::Signal(int signal) {
  if (running()) kill(pid_, signal);
}

void Process::Kill() {
  Signal(SIGKILL);
  Wait(absl::Seconds(10));
}

std::optional<int> Process::Wait(absl::Duration timeout) {
  WaitUntil([&] { return !running(); }, timeout);
  return exit_code_;
}

bool Process::running() {
  if (exit_code_) return false;
  int wait_status = 0;
  if (waitpid(pid_, &wait_status, WNOHANG) != pid_) return true;
  exit_code_ = ExitCode(wait_status);
  return false;
}

std::string Process::Log() const { return ReadFile(log_path_); }

Finished RunProgram(const std::vector<std::string>& argv, absl::Duration timeout) {
  TempDir dir;
  const std::string out = dir / "out", err = dir / "err";
  const pid_t pid = Spawn(argv, out, err);
  Finished finished;
  int wait_status = 0;
  if (WaitUntil([&] { return waitpid(pid, &wait_status, WNOHANG) == pid; }, timeout)) {
    finished.exit_code = ExitCode(wait_status);
  } else {
    kill(pid, SIGKILL);
    waitpid(pid, &wait_status, 0);
  }
  finished.out = ReadFile(out);
  finished.err = ReadFile(err);
  return finished;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void SleepBriefly() { absl::SleepFor(absl::Milliseconds(5)); }

}  // namespace pregate::testing

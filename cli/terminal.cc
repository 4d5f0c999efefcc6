#include "cli/terminal.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "absl/time/clock.h"
#include "cli/printable.h"

namespace pregate::cli {
namespace {

// Threads of gRPC may take the signal in our place, so waits look at the flag this often.
constexpr int kPollMs = 50;
constexpr size_t kLineBytesMax = 1 << 20;

std::atomic<bool> interrupted = false;  // a handler has nothing else to write to
static_assert(std::atomic<bool>::is_always_lock_free);

void SetHandler(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  // A write to a terminal that is full goes on; waits for keys are polls, which end all the same.
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
}

// What the second SIGINT puts right; set while there is no handler or nothing to undo.
const char* last_words_of_process = "";
const termios* terminal_before = nullptr;

// Only what is async-signal-safe.
void OnInterrupt(int) {
  if (!interrupted.exchange(true)) return;
  if (terminal_before != nullptr) tcsetattr(STDIN_FILENO, TCSANOW, terminal_before);
  size_t size = 0;
  while (last_words_of_process[size] != '\0') ++size;
  if (write(STDOUT_FILENO, last_words_of_process, size) < 0) {
    // The process ends anyway.
  }
  SetHandler(SIG_DFL);
  raise(SIGINT);
}

bool Readable(int fd, int timeout_ms) {
  pollfd waited{fd, POLLIN, 0};
  return poll(&waited, 1, timeout_ms) > 0;
}

}  // namespace

bool TakesColour(int fd) {
  const char* const no_colour = std::getenv("NO_COLOR");
  const char* const terminal = std::getenv("TERM");
  if (no_colour != nullptr && *no_colour != '\0') return false;
  return isatty(fd) != 0 && !(terminal != nullptr && std::string_view(terminal) == "dumb");
}

void PrintAnswer(std::string_view text) {
  static const bool terminal = isatty(STDOUT_FILENO) != 0;
  const std::string shown =
      terminal ? Printable(absl::string_view(text.data(), text.size()), Layout::kFlow)
               : std::string(text);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fflush(stdout);
}

Interrupts::Interrupts(const char* last_words) {
  last_words_of_process = last_words;
  SetHandler(OnInterrupt);
}
Interrupts::~Interrupts() { SetHandler(SIG_DFL); }
bool Interrupts::Take() { return interrupted.exchange(false); }
bool Interrupts::Pending() { return interrupted; }

LineReader::Outcome LineReader::Read(std::string* line) {
  while (!TakeLine(line)) {
    if (at_end_) return Outcome::kEnd;
    if (Interrupts::Take()) return Outcome::kInterrupted;
    if (!Readable(fd_, kPollMs)) continue;
    char chunk[4096];
    const ssize_t n = read(fd_, chunk, sizeof(chunk));
    if (n > 0) buffer_.append(chunk, n);
    if (n == 0) at_end_ = true;
    if (n < 0 && errno != EINTR && errno != EAGAIN) at_end_ = true;
  }
  return Outcome::kLine;
}

bool LineReader::TakeLine(std::string* line) {
  const size_t end = buffer_.find('\n');
  if (end == std::string::npos && buffer_.size() < kLineBytesMax &&
      !(at_end_ && !buffer_.empty())) {
    return false;
  }
  const size_t size = std::min({end, buffer_.size(), kLineBytesMax});
  *line = buffer_.substr(0, size);
  buffer_.erase(0, size + (size == end ? 1 : 0));
  return true;
}

Keys::Keys() : terminal_(isatty(STDIN_FILENO) != 0) {
  if (!terminal_ || tcgetattr(STDIN_FILENO, &before_) != 0) return;
  terminal_before = &before_;
  termios raw = before_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);  // ISIG stays: Ctrl-C is a signal
  tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

Keys::~Keys() {
  if (terminal_) tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  terminal_before = nullptr;
}

std::optional<char> Keys::Wait(absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  for (absl::Duration left = timeout; left > absl::ZeroDuration(); left = end - absl::Now()) {
    if (interrupted) return std::nullopt;
    const int ms =
        static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(left) + 1, kPollMs));
    if (!terminal_) {
      absl::SleepFor(absl::Milliseconds(ms));
      continue;
    }
    char key = 0;
    if (Readable(STDIN_FILENO, ms) && read(STDIN_FILENO, &key, 1) == 1) return key;
  }
  return std::nullopt;
}

}  // namespace pregate::cli

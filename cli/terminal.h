// The terminal of the interactive commands: Ctrl-C as an event, lines and keys that it can
// interrupt.
#pragma once

#include <termios.h>

#include <optional>
#include <string>

#include "absl/time/time.h"

namespace pregate::cli {

// While one lives, SIGINT sets a flag instead of ending the process. One at a time in a process.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Whether SIGINT came since the last call. Thread-safe.
  static bool Take();
};

// Lines of a file descriptor. Not thread-safe.
class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}

  enum class Outcome { kLine, kEnd, kInterrupted };  // kInterrupted: Interrupts::Take() was true
  // Without the line's end; a last line may lack one. A line that is too long comes in pieces.
  Outcome Read(std::string* line);

 private:
  bool TakeLine(std::string* line);

  const int fd_;
  std::string buffer_;
  bool at_end_ = false;
};

// While one lives and stdin is a terminal, keys arrive at once and unechoed. Not thread-safe.
class Keys {
 public:
  Keys();
  ~Keys();
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  // A key pressed within `timeout`. Off a terminal it only waits. Ends early on SIGINT.
  std::optional<char> Wait(absl::Duration timeout);

 private:
  const bool terminal_;
  termios before_;
};

}  // namespace pregate::cli

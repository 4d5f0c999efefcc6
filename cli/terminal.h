// The terminal of the interactive commands: Ctrl-C as an event, lines and keys that it can
// interrupt.
#pragma once

#include <termios.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace pregate::cli {

// Whether `fd` is a terminal whose user has not said NO_COLOR (no-color.org) or TERM=dumb.
bool TakesColour(int fd);

// Writes a part of a model's answer to stdout, at once; on a terminal as Printable text.
void PrintAnswer(std::string_view text);

// While one lives, SIGINT sets a flag instead of ending the process. A second one while nobody took
// the first ends it after all. One at a time in a process.
class Interrupts {
 public:
  // `last_words`, a literal, go to stdout before a second SIGINT ends the process.
  explicit Interrupts(const char* last_words = "");
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Whether SIGINT came since the last call. Thread-safe.
  static bool Take();
  // The same, and it stays to be taken. Thread-safe.
  static bool Pending();
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

// One line on stderr for long work: what, how far, time left. Silent with --json and off a terminal
// every 10 s only.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace pregate::cli {

// Not thread-safe.
class ProgressLine {
 public:
  ProgressLine(std::string what, bool silent);
  ~ProgressLine();  // ends the line
  void Update(int64_t done, int64_t total);

 private:
  const std::string what_;
  const bool silent_;
  const bool terminal_;
  const absl::Time start_;
  absl::Time last_shown_;
  bool shown_ = false;
};

}  // namespace pregate::cli

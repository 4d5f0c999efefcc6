#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace pregate::cli {

ProgressLine::ProgressLine(std::string what, bool silent)
    : what_(std::move(what)),
      silent_(silent),
      terminal_(isatty(STDERR_FILENO)),
      start_(absl::Now()),
      last_shown_(start_) {}

ProgressLine::~ProgressLine() {
  if (shown_ && terminal_) std::fputc('\n', stderr);
}

void ProgressLine::Update(int64_t done, int64_t total) {
  const absl::Time now = absl::Now();
  const absl::Duration period = terminal_ ? absl::Milliseconds(200) : absl::Seconds(10);
  if (silent_ || total <= 0 || done <= 0 || (now - last_shown_ < period && done < total)) return;
  if (done >= total && !shown_) return;  // it was quick: nothing to say
  last_shown_ = now;
  shown_ = true;
  const double left_s = absl::ToDoubleSeconds(now - start_) * (total - done) / done;
  const std::string line = absl::StrFormat("%s: %d of %d, %.0f s left", what_, done, total, left_s);
  std::fprintf(stderr, terminal_ ? "\r\x1b[K%s" : "%s\n", line.c_str());
}

}  // namespace pregate::cli

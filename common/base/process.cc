#include "common/base/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "absl/strings/str_cat.h"
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
}

absl::Status FlushStandardOutput() {
  const bool lost_before = std::ferror(stdout) != 0;
  const bool flushed = std::fflush(stdout) == 0;
  if (flushed && !lost_before) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("standard output cannot be written",
                                             flushed ? "" : ": ",
                                             flushed ? "" : std::strerror(errno)));
}

}  // namespace pregate

#include "cli/top/socket_deadline.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/time/clock.h"

namespace pregate::cli {
namespace {

constexpr std::chrono::milliseconds kPoll(10);

}  // namespace

SocketDeadline::SocketDeadline(absl::Duration timeout, std::function<bool()> cancelled)
    : end_(absl::Now() + timeout),
      cancelled_(std::move(cancelled)),
      thread_([this](const std::stop_token& over) { Run(over); }) {}

SocketDeadline::~SocketDeadline() {
  thread_.request_stop();
  thread_.join();
  for (const int fd : sockets_) close(fd);
}

void SocketDeadline::Add(int fd) {
  const int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  const std::lock_guard lock(mutex_);
  if (ours >= 0) sockets_.push_back(ours);
}

bool SocketDeadline::passed() const { return absl::Now() >= end_; }

// Again and again: a socket may have come later, or not have been connected yet.
void SocketDeadline::Run(const std::stop_token& over) {
  for (; !over.stop_requested(); std::this_thread::sleep_for(kPoll)) {
    if (!passed() && !cancelled_()) continue;
    const std::lock_guard lock(mutex_);
    for (const int fd : sockets_) shutdown(fd, SHUT_RDWR);
  }
}

}  // namespace pregate::cli

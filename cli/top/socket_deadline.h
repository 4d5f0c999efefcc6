// Ends connections that take too long, whatever they wait for.
#pragma once

#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace pregate::cli {

// httplib's own timeouts start anew with every byte, and its stop() waits for a handshake under
// way. So from `timeout` on, or when `cancelled` says so, a thread shuts down the sockets
// themselves until the object goes. Thread-safe.
class SocketDeadline {
 public:
  SocketDeadline(absl::Duration timeout, std::function<bool()> cancelled);
  ~SocketDeadline();
  SocketDeadline(const SocketDeadline&) = delete;
  SocketDeadline& operator=(const SocketDeadline&) = delete;

  // `fd` may be closed, and its number used again, at any time after.
  void Add(int fd);
  bool passed() const;

 private:
  void Run(const std::stop_token& over);

  const absl::Time end_;
  const std::function<bool()> cancelled_;
  std::mutex mutex_;
  std::vector<int> sockets_;  // our own duplicates
  std::jthread thread_;
};

}  // namespace pregate::cli

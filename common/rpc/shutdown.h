// SIGTERM and SIGINT as something to wait for: the first asks for a drain, the second exits at
// once. While a program still loads there is nothing to drain, so the first one exits too.
#pragma once

#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"

namespace pregate {

// Construct one in main before any other thread starts: it blocks both signals in the calling
// thread and so in all threads started later, and takes them on a thread of its own. SIGPIPE is
// ignored from then on.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();
  ShutdownSignal(const ShutdownSignal&) = delete;
  ShutdownSignal& operator=(const ShutdownSignal&) = delete;

  // The end of loading: from now on there is something to drain. Until then a signal exits at once.
  void BeginServing();
  // Blocks until the first signal or Request().
  void Wait();
  // As if a signal had come: a part of the process failed and the rest should drain. Thread-safe.
  void Request();

 private:
  void Watch();

  absl::Notification requested_;
  std::atomic<bool> was_requested_{false};
  std::atomic<bool> serving_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace pregate

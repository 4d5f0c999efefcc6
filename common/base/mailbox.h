// A bounded queue between threads: the one place where a loop blocks (docs/CONTRACTS.md, "Loops").
// The standard library's mutexes, here and in the other engines: ThreadSanitizer sees through them,
// not through those of Debian's Abseil, which is not instrumented.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"

namespace pregate {

// Thread-safe; many producers, one consumer. Push never blocks.
template <typename T>
class Mailbox {
 public:
  // `capacity` counts messages; Push beyond it returns false and the message is not taken.
  explicit Mailbox(size_t capacity) : capacity_(capacity) {}

  bool Push(T message) {
    std::lock_guard lock(mutex_);
    if (closed_ || queue_.size() >= capacity_) return false;
    queue_.push_back(std::move(message));
    wake_.notify_one();
    return true;
  }

  // Blocks until there is a message, the mailbox is closed, or `timeout` has passed; returns all
  // that is queued, in order of arrival.
  std::vector<T> Wait(absl::Duration timeout) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, absl::ToChronoNanoseconds(std::min(timeout, kLongestWait)),
                   [this] { return closed_ || !queue_.empty(); });
    std::vector<T> out(std::make_move_iterator(queue_.begin()),
                       std::make_move_iterator(queue_.end()));
    queue_.clear();
    return out;
  }

  // Wakes the consumer for good; later pushes are refused.
  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    wake_.notify_one();
  }

  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  static constexpr absl::Duration kLongestWait = absl::Hours(24 * 365);  // chrono would overflow

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<T> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate

// A bounded queue between threads: the one place where a loop blocks (DESIGN section 5, "Loops").
#pragma once

#include <cstddef>
#include <deque>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace pregate {

// Thread-safe; many producers, one consumer. Push never blocks.
template <typename T>
class Mailbox {
 public:
  // `capacity` counts messages; Push beyond it returns false and the message is not taken.
  explicit Mailbox(size_t capacity) : capacity_(capacity) {}

  bool Push(T message) {
    absl::MutexLock lock(&mutex_);
    if (closed_ || queue_.size() >= capacity_) return false;
    queue_.push_back(std::move(message));
    return true;
  }

  // Blocks until there is a message, the mailbox is closed, or `timeout` has passed; returns all
  // that is queued, in order of arrival.
  std::vector<T> Wait(absl::Duration timeout) {
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Mailbox::Ready), timeout);
    std::vector<T> out(std::make_move_iterator(queue_.begin()),
                       std::make_move_iterator(queue_.end()));
    queue_.clear();
    return out;
  }

  // Wakes the consumer for good; later pushes are refused.
  void Close() {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }

  bool closed() const {
    absl::MutexLock lock(&mutex_);
    return closed_;
  }

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closed_ || !queue_.empty(); }

  const size_t capacity_;
  mutable absl::Mutex mutex_;
  std::deque<T> queue_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace pregate

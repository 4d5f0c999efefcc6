#include "common/device/cpu/transfer_queue.h"

#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/device/steady_time.h"

namespace pregate::cpu {

ThreadTransferQueue::~ThreadTransferQueue() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
}

uint64_t ThreadTransferQueue::Copy(void* dst, const void* host_src, size_t bytes, uint64_t after) {
  PREGATE_CHECK(after <= num_marks_, "mark ", after, " of ", num_marks_);
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back({dst, host_src, bytes});
  }
  work_.notify_one();
  return ++num_copies_;
}

void ThreadTransferQueue::Await(uint64_t number) {
  PREGATE_CHECK(number <= num_copies_, "copy ", number, " of ", num_copies_);
  std::unique_lock lock(mutex_);
  if (num_done_ >= number) return;
  const absl::Time start = SteadyNow();
  done_.wait(lock, [&] { return num_done_ >= number; });
  const TransferSpan wait = {.is_wait = true, .begin = start, .end = SteadyNow()};
  stalled_ += wait.end - wait.begin;
  Note(wait);
}

std::vector<TransferSpan> ThreadTransferQueue::TakeSpans() {
  std::lock_guard lock(mutex_);
  return std::exchange(spans_, {});
}

uint64_t ThreadTransferQueue::num_done() {
  std::lock_guard lock(mutex_);
  return num_done_;
}

void ThreadTransferQueue::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    const Job job = jobs_.front();
    lock.unlock();
    const absl::Time start = SteadyNow();
    std::memcpy(job.dst, job.src, job.bytes);
    const TransferSpan copy = {.begin = start, .end = SteadyNow()};
    lock.lock();
    Note(copy);
    jobs_.pop_front();
    ++num_done_;
    done_.notify_all();
  }
}

}  // namespace pregate::cpu

// Copies on a thread of their own, so that loading an expert unit overlaps with the operations.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "common/device/device.h"

namespace pregate::cpu {

// Operations run on the spot, so a mark is passed as soon as it is made.
class ThreadTransferQueue final : public TransferQueue {
 public:
  ThreadTransferQueue() : thread_([this] { Run(); }) {}
  ~ThreadTransferQueue() override;

  uint64_t Mark() override { return ++num_marks_; }
  uint64_t Copy(void* dst, const void* host_src, size_t bytes, uint64_t after) override;
  void Await(uint64_t number) override;
  uint64_t num_done() override;
  absl::Duration stalled() override { return stalled_; }
  std::vector<TransferSpan> TakeSpans() override;

 private:
  struct Job {
    void* dst;
    const void* src;
    size_t bytes;
  };
  void Run();
  void Note(const TransferSpan& span) {  // REQUIRES: mutex_
    if (spans_.size() < kTransferSpansMax) spans_.push_back(span);
  }

  uint64_t num_marks_ = 0;
  uint64_t num_copies_ = 0;
  absl::Duration stalled_;

  std::mutex mutex_;  // what follows
  std::condition_variable work_, done_;
  std::deque<Job> jobs_;  // the first one may be under way
  uint64_t num_done_ = 0;
  std::vector<TransferSpan> spans_;
  bool stop_ = false;

  std::thread thread_;
};

}  // namespace pregate::cpu
